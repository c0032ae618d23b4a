"""Training of the last blocks on what the frozen ones below them computed once (`activations.py`).

``kept`` wraps an objective over rows.  Before the training ``prepare`` computes, for each row, what enters the first
block that is trained; a step then begins there.  What an epoch saves is the forward pass of the frozen blocks, of a
step's time n_frozen / (n_frozen + 3·n_trained) if the head is small.  Where the training reads no row twice nothing
is kept: it could save nothing.

The loss is the same function, for frozen blocks compute without dropout in any case (`model/gpt.py`).  At the default
model's shape it was the same to the last bit where it was measured; for tiny ones it differs by up to 1e-6 of it,
because matrix products of other shapes may add in another order.  No way of computing a text once could be exact
everywhere: without kept activations it is padded to another width in every epoch.  What is kept is a function of rows,
weights, number format and machine class alone; the same training is the same bytes, killed or not.

Rejected: computing one row at a time (1.4 times the time for the default model), and activations of documents
for validation (the forward pass of a tenth of them, every few hundred steps).
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gptcore.adapters.activations import Activations
from gptcore.adapters.config import AdapterConfig
from gptcore.data import pad
from gptcore.evaluate import evaluating
from gptcore.formats.table import Model
from gptcore.machine.units import in_bytes
from gptcore.objectives import Facts, Objective
from gptcore.runtime import autocast

Rows = Sequence[Sequence[int]]


class OverRows(Protocol):
    """An objective whose batches are (ids, targets) of rows, and whose loss takes what enters the first trained block
    as a third."""

    def batches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]: ...

    def indices(self, number: int) -> Sequence[int]: ...

    def loss(self, model: Any, batch: Any) -> tuple[Tensor, Facts]: ...


class Prepared(NamedTuple):
    """How far ``prepare`` is."""

    done: int
    pieces: int
    rows: int
    size: int
    """Bytes on disk in all."""

    def __str__(self) -> str:
        """What is kept, whatever is done of it."""
        return f"the activations of {self.rows:,} rows, {in_bytes(self.size)},"


class Kept:
    """The objective, from kept activations once ``prepare`` has been through."""

    def __init__(self, objective: OverRows, rows: Rows, model: Model, dtype: str, remedy: str) -> None:
        self.objective, self.rows, self.model, self.dtype, self.remedy = objective, rows, model, dtype, remedy
        self._kept: Activations | None = None

    def prepare(self, directory: Path, batches: int) -> Iterator[Prepared]:
        """Have in ``directory`` what ``batches`` batches from the first on need; yields before and after each piece.

        Raises ``DiskError`` before any work where the disk can't hold it.
        """
        if not self._reads_again(batches):
            return
        lengths = [len(row) for row in self.rows]
        kept = Activations(directory, lengths, self.model.config.d_model, self._key())
        missing = kept.open(self.remedy)
        done = Prepared(len(kept.pieces) - len(missing), len(kept.pieces), len(lengths), kept.size)
        yield done
        for piece in missing:
            kept.write(piece, self._below([self.rows[i] for i in kept.pieces[piece]]))
            yield (done := done._replace(done=done.done + 1))
        self._kept = kept

    def batches(self, start: int) -> Iterator[tuple[Tensor, ...]]:
        for number, (ids, targets) in enumerate(self.objective.batches(start), start):
            if self._kept is None:
                yield ids, targets
            else:
                yield ids, targets, self._kept.read(self.objective.indices(number), ids.shape[1])

    def indices(self, number: int) -> Sequence[int]:
        return self.objective.indices(number)

    def loss(self, model: Model, batch: Any) -> tuple[Tensor, Facts]:
        return self.objective.loss(model, batch)

    def _below(self, rows: Rows) -> Tensor:
        """What enters the first trained block (B, T, C), as in a training step but without dropout."""
        with evaluating(self.model), autocast(self.dtype):
            return self.model.body.below(pad(rows, 0))  # padding on the right: no real token looks at it

    def _reads_again(self, batches: int) -> bool:
        """Whether a row is read twice: only then is there something to gain."""
        read = 0
        for number in range(batches):
            read += len(self.objective.indices(number))
            if read > len(self.rows):
                return True
        return False

    def _key(self) -> str:
        """Names all that decides the numbers but the machine."""
        digest = hashlib.sha256(f"{self.dtype} {self.model.body.frozen_blocks} {self.model.config}".encode())
        for row in self.rows:
            digest.update(f" {len(row)} ".encode() + torch.tensor(row).numpy().tobytes())
        for parameter in self.model.body.parameters_below():
            digest.update(parameter.detach().contiguous().numpy().data)
        return digest.hexdigest()


def kept(
    objective: OverRows, rows: Rows, model: Model, config: AdapterConfig, dtype: str, pad_id: int, where: str
) -> Objective:
    """The objective, from kept activations if ``config`` wants them and blocks are frozen below all that is trained.

    ``rows`` are the ids that the objective's batches are made of; ``where`` is what messages call ``config``.
    """
    if not (config.keep_activations and model.body.frozen_blocks):
        return objective
    not_empty = [row or [pad_id] for row in rows]  # of an empty row the first padding is what its loss looks at
    return Kept(objective, not_empty, model, dtype, f"make space, or set {where}.keep_activations to false")

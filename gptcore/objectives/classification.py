"""Telling which label a text has: cross-entropy over the labels, in batches of texts of similar length.

The last token is where a text is judged.  With *target replication* (Lipton et al., 2016, "Learning to Diagnose with
LSTM Recurrent Neural Networks", arXiv 1511.03677) every other token is asked too, what it has read so far being a text
of the same label: of 64 documents a model makes some thousand examples, and what it tells at the end hangs less on how
the text ends.  It costs nothing, for the body has computed every token anyway.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gptcore.data import Batch, EnteringBatch, LengthBatches, pad
from gptcore.model import Classifier
from gptcore.objectives import Facts


@dataclass(frozen=True)
class Classification:
    """The objective over encoded ``rows`` and the indices of their labels."""

    rows: Sequence[Sequence[int]]
    targets: Sequence[int]
    batch_rows: int
    pad_id: int
    seed: int
    replication: float = 0.0
    """Share of target replication in the loss."""

    def batches(self, start: int) -> Iterator[Batch]:
        for indices in self._order().starting_at(start):
            yield pad([self.rows[i] for i in indices], self.pad_id), torch.tensor([self.targets[i] for i in indices])

    def indices(self, number: int) -> list[int]:
        """The rows of one batch."""
        return self._order().batch(number)

    def loss(self, model: Classifier, batch: Batch | EnteringBatch) -> tuple[Tensor, Facts]:
        return classification_loss(model, batch, self.replication), {}

    def _order(self) -> LengthBatches:
        return LengthBatches([len(row) for row in self.rows], self.batch_rows, self.seed)


def classification_loss(model: Classifier, batch: Batch | EnteringBatch, replication: float = 0.0) -> Tensor:
    """Cross-entropy in nats of ids (B, T) and labels (B).

    Of each text (1 - replication) times that at its last token, and replication times the mean over all its tokens.
    """
    ids, labels, *entering = batch
    if not replication:
        return F.cross_entropy(model(ids, *entering).float(), labels)
    B, T = ids.shape
    logits = model.at_every_token(ids, *entering).float()  # (B, T, labels)
    nats = F.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(T), reduction="none").view(B, T)
    last = model.last_real(ids)[:, None]  # (B, 1)
    real = torch.arange(T, device=ids.device) <= last  # (B, T)
    mean, at_end = (nats * real).sum(dim=1) / real.sum(dim=1), nats.gather(1, last)[:, 0]  # (B) each
    return torch.lerp(at_end, mean, replication).mean()


OBJECTIVE = Classification

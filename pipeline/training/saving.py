"""When a training is saved, and what is saved with it.

A state is due every ``save_every`` steps, and on a slow machine every 30 seconds besides: a killed run loses no more
than that, the step that was under way and its evaluation.  Seconds are no parameter, for no byte of a result depends
on them; ``GPTCORE_SAVE_SECONDS`` sets others.  Saving takes 0.05 s for the default model; a large one is never saved
by the clock before twenty times the time that its last save took, so the clock costs 5 % at the most.

Beside weights and moments lie the curve and the trace (`trace.py`) so far, a line of JSON a step: a resumed run has
those of an uninterrupted one.  Rejected: keeping them in the state's manifest.  It was formatted anew, for people, at
every save: a second of each one after 300,000 steps.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gptcore import checkpoint
from gptcore.artifact import canonical_json
from gptcore.errors import ParameterError
from gptcore.optim import Optimizers
from pipeline.training.trace import Trace

SAVE_SECONDS = 30.0
VARIABLE = "GPTCORE_SAVE_SECONDS"
LEAST_RATIO = 20.0
"""Seconds between two saves by the clock, in seconds that a save takes."""
KEPT_STATES = 2
CURVE, TRACE = "curve.jsonl", "trace.jsonl"


class History:
    """What a training has done so far: its curve and its trace, growing."""

    def __init__(self, curve: bytes = b"", trace: bytes = b"") -> None:
        self.curve: list[dict[str, float]] = [json.loads(line) for line in curve.splitlines()]
        """A row a step."""
        self.trace = Trace(trace)
        self._lines = bytearray(curve)

    def add(self, row: dict[str, float]) -> None:
        """Append the row of one step; its numbers are finite."""
        self.curve.append(row)
        self._lines += canonical_json(row).encode() + b"\n"

    def files(self) -> dict[str, bytes]:
        return {CURVE: bytes(self._lines), TRACE: bytes(self.trace)}


class Saver:
    """The saved states of one training in ``directory``."""

    def __init__(
        self,
        directory: Path,
        model: torch.nn.Module,
        optimizers: Optimizers,
        every_steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory, self.model, self.optimizers = directory, model, optimizers
        self.every_steps, self.every_seconds, self.clock = every_steps, seconds(), clock
        self.newest: Path | None = None
        """The last state that is whole."""
        self._last, self._took = clock(), 0.0

    def resume(self) -> tuple[int, History]:
        """Restore the newest state, if there is one; returns the steps taken and what they were."""
        found = checkpoint.resume(self.directory, self.model, self.optimizers)
        self._last = self.clock()
        if found is None:
            return 0, History()
        self.newest = found.directory
        return found.config["step"], History(*((found.directory / name).read_bytes() for name in (CURVE, TRACE)))

    def due(self, step: int) -> bool:
        waited = self.clock() - self._last
        return step % self.every_steps == 0 or waited >= max(self.every_seconds, LEAST_RATIO * self._took)

    def save(self, step: int, history: History) -> None:
        started = self.clock()
        self.newest = checkpoint.save(self.directory, self.model, self.optimizers, step, files=history.files())
        checkpoint.prune(self.directory, keep=KEPT_STATES)
        self._last = self.clock()
        self._took = self._last - started


def seconds() -> float:
    """Seconds after which a training is saved at the latest."""
    given = os.environ.get(VARIABLE) or str(SAVE_SECONDS)
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not value >= 0:  # "nan" is no length of time either
        raise ParameterError(f"{VARIABLE}={given}: expected a number of seconds of at least 0")
    return value

"""The early choice: the weights of the step that did best on validation data.

They lie beside the saved states, as an artifact, and are replaced whenever a step does better; of equal ones the
earliest stays.  A step is offered before its state is saved, so a killed run that goes on from an earlier state
offers it again, and chooses what an uninterrupted one does.

Rejected: keeping the state of every evaluation (the optimizer's moments are twice the weights, and nobody goes on from
there).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from gptcore.artifact import commit, open_verified, write_tensors
from gptcore.checkpoint import trained
from gptcore.formats.containers.safetensors import opened_file
from gptcore.manifest import MANIFEST

KIND = "chosen weights"
WEIGHTS = "weights.safetensors"

Score = Callable[[Mapping[str, float]], tuple[float, ...]]
"""A row of measurements → what is compared; the highest is best."""


class Choice:
    """What ``score`` likes best so far, in ``states / "chosen"``."""

    def __init__(self, states: Path, model: torch.nn.Module, score: Score) -> None:
        self.place, self.model, self.score = states / "chosen", model, score

    def offer(self, step: int, row: Mapping[str, float]) -> None:
        """The model as it is after ``step``, of which ``row`` was measured."""
        score = list(self.score(row))
        if (self.place / MANIFEST).exists():
            best = self._opened()
            if (best["score"], -best["step"]) >= (score, -step):
                return
        with commit(self.place, kind=KIND, config={"step": step, "score": score}) as draft:
            write_tensors(draft / WEIGHTS, {name: p.detach().contiguous() for name, p in trained(self.model).items()})

    def take(self) -> int:
        """Give the model the chosen weights; returns their step."""
        step = int(self._opened()["step"])
        with opened_file(self.place / WEIGHTS) as (file, _), torch.no_grad():
            for name, parameter in trained(self.model).items():
                parameter.copy_(file.get_tensor(name))
        return step

    def _opened(self) -> Mapping[str, Any]:
        return open_verified(self.place, KIND, remedy=f"delete {self.place.parent} to start afresh").config

"""The tasks, a module each; a task of one's own is an entry point of this package's name.

A task has examples and says how good answers to them are.  Tuning stages train on a task's examples; the evaluation
lets untuned models solve its problems by prompting, for the tasks that ``evaluate.tasks`` names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gptcore.seams import Seam
from pipeline.tasks.problems import Problem

TASKS = Seam("pipeline.tasks.sets", "TASK")


@dataclass(frozen=True)
class TaskData:
    """Where tasks have their examples from."""

    raw: Path
    """What ``download`` fetched."""
    instructions: Path
    """``data/instructions.jsonl``."""


@dataclass(frozen=True)
class Amount:
    """How much to solve by prompting."""

    examples: int
    """Problems at most, where the task has no kinds."""
    per_kind: int
    """Problems of each kind at most, where it has."""
    shots: int
    """Solved examples at hand for each problem."""
    seed: int
    """Of what is drawn."""


class Task(Protocol):
    """One thing to be good at; ``TASK`` in its module makes it from the `TaskData`."""

    per_token: bool
    """Whether answers are compared by their nats/token, for their lengths differ by more than their likelihood."""

    def examples(self, split: str) -> Sequence[Any]:
        """Of train, val or test, in a fixed order."""

    def score(self, answers: Sequence[str], examples: Sequence[Any]) -> dict[str, float]:
        """How good ``answers`` to these examples are, by measure."""

    def problems(self, amount: Amount) -> list[Problem]:
        """Test examples with candidate answers and solved training examples."""

    def without_model(self, problems: Sequence[Problem]) -> dict[str, float]:
        """What answers get that ignore the question, by name."""

"""How the model is trained from scratch."""

from dataclasses import dataclass
from typing import Annotated

from gptcore.objectives import OBJECTIVES
from gptcore.ranges import Batch, OneOf, Steps, Whole
from gptcore.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """`gptcore.train_config.TrainConfig` and what the stage adds."""

    objective: Annotated[str, OneOf(OBJECTIVES.names)] = "next-token"
    """What is learned: a member of `gptcore.objectives` that learns from windows of text."""
    batch_windows: Batch
    """Windows per batch."""
    eval_every: Steps
    """Steps between evaluations on the validation split."""
    eval_windows: Annotated[int, Whole(1, 1_000_000)]
    """Validation windows per evaluation."""
    save_every: Steps
    """Steps between saved training states."""

"""How the foundation is taught to follow instructions."""

from dataclasses import dataclass

from gptcore.ranges import Batch, Context, Steps
from gptcore.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class FinetuneInstructConfig(TrainConfig):
    """`gptcore.train_config.TrainConfig` and what the stage adds."""

    batch_examples: Batch
    """Examples per batch."""
    max_new_tokens: Context
    """Longest answer at the evaluation."""
    eval_every: Steps
    """Steps between evaluations of the response loss on the validation entries."""
    save_every: Steps
    """Steps between saved training states."""

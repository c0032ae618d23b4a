"""How the foundation is taught to follow instructions."""

from dataclasses import dataclass, field

from gptcore.adapters.config import AdapterConfig
from gptcore.ranges import LATER, Batch, Context, Steps
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
    adapter: AdapterConfig = field(default=AdapterConfig(), metadata={LATER: True})
    """Which weights are tuned: all, those of the last blocks, or LoRA's."""

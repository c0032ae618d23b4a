"""How the foundation is taught to label texts."""

from dataclasses import dataclass, field
from typing import Annotated

from gptcore.adapters.config import AdapterConfig
from gptcore.ranges import LATER, Batch, Context, Number, Steps, Whole, later
from gptcore.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class FinetuneClassifyConfig(TrainConfig):
    """`gptcore.train_config.TrainConfig` and what the stage adds."""

    batch_documents: Batch
    """Documents per batch."""
    max_tokens: Context
    """Tokens of a document that are read; the rest is cut off."""
    val_fraction: Annotated[float, Number(0, 0.5, open_low=True, open_high=True)]
    """Share of the published training split that is kept for validation."""
    eval_every: Steps
    """Steps between evaluations on the validation documents."""
    save_every: Steps
    """Steps between saved training states."""
    documents_per_label: Annotated[int, Whole(0, 1_000_000)] = later(0)
    """Training documents of each label, drawn by the seed: what a model learns from a few; 0: all."""
    target_replication: Annotated[float, Number(0, 1)] = later(0.0)
    """Share of the loss that asks every token for its text's label, not the last one alone: helps where documents are
    few (`gptcore.objectives.classification`)."""
    adapter: AdapterConfig = field(default=AdapterConfig(), metadata={LATER: True})
    """Which weights are tuned: all, those of the last blocks, or LoRA's."""

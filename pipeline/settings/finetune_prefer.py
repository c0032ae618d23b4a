"""How the model that follows instructions is taught to prefer right answers to its own wrong ones."""

from dataclasses import dataclass, field
from typing import Annotated

from gptcore.adapters.config import AdapterConfig
from gptcore.preference_config import PreferenceLoss
from gptcore.ranges import LATER, Batch, Context, Each, Number, OneOf, Steps, Whole
from gptcore.train_config import TrainConfig

TUNED = ("instruct",)


@dataclass(frozen=True, kw_only=True)
class FinetunePreferConfig(PreferenceLoss, TrainConfig):
    """`gptcore.train_config.TrainConfig`, `gptcore.preference_config.PreferenceLoss` and what the stage adds."""

    of: Annotated[list[str], Each(OneOf(TUNED), not_empty=False)]
    """What is tuned: ``[instruct]``, the model that follows instructions; ``[]``: the stage is not there."""
    asked: Annotated[int, Whole(1, 10_000_000)]
    """Training instructions that the model is asked, at most; drawn by the seed."""
    tries: Annotated[int, Whole(1, 256)]
    """Answers to each: a greedy one, the others sampled."""
    temperature: Annotated[float, Number(0, 100, open_low=True)]
    """Of the sampled answers."""
    pairs_each: Annotated[int, Whole(1, 256)]
    """Pairs of one instruction, at most: its right answer with as many different wrong ones."""
    max_new_tokens: Context
    """Longest answer."""
    batch_pairs: Batch
    """Pairs per batch; each is two rows."""
    eval_every: Steps
    """Steps between evaluations on the validation entries; the best of them is kept."""
    save_every: Steps
    """Steps between saved training states."""
    adapter: AdapterConfig = field(default=AdapterConfig(), metadata={LATER: True})
    """Which weights are tuned: all, those of the last blocks, or LoRA's; activations are not kept."""

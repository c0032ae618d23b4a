"""How to train: the optimizer, its schedule, how long.  Read by whoever reads parameters, so it needs no PyTorch."""

from dataclasses import dataclass
from typing import Annotated

from gptcore.ranges import Batch, Checked, Number, OneOf, Seed, Steps, Whole

SCHEDULES = ("cosine", "linear", "constant")

Share = Annotated[float, Number(0, 1)]
_Peak = Annotated[float, Number(0, 1e6, open_low=True)]
_Beta = Annotated[float, Number(0, 1, open_high=True)]


@dataclass(frozen=True)
class OptimConfig(Checked):
    """What to minimise with; fields in the units of their names."""

    optimizer: Annotated[str, OneOf(("adamw", "muon"))] = "adamw"
    """``adamw``, or ``muon`` for the blocks' matrices beside AdamW for the rest."""
    learning_rate: _Peak = 3e-4
    """AdamW's peak learning rate."""
    muon_learning_rate: _Peak = 0.02
    """Muon's peak learning rate (used with ``optimizer: muon``)."""
    weight_decay: Annotated[float, Number(0, 1000)] = 0.1
    """Decoupled decay of matrices and embeddings."""
    beta1: _Beta = 0.9
    beta2: _Beta = 0.95
    grad_clip: Annotated[float, Number(0, 1e9)] = 1.0
    """Largest norm of the whole gradient; 0 switches clipping off."""
    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    """``cosine`` to min_lr_ratio, ``linear`` decay over the last decay_fraction, or ``constant``."""
    warmup_steps: Annotated[int, Whole(0, 1_000_000_000)] = 0
    """Steps of linear rise from 0 to the peak."""
    decay_fraction: Share = 1.0
    """Share of the steps over which the ``linear`` schedule falls."""
    min_lr_ratio: Share = 0.0
    """Last learning rate as a share of the peak."""


@dataclass(frozen=True)
class TrainConfig(OptimConfig):
    """How long to train, and with what."""

    max_steps: Steps = 1000
    """Optimizer steps in all."""
    accumulation_steps: Batch = 1
    """Batches whose gradients are averaged before one optimizer step."""
    seed: Seed = 1
    """Of the dropout; the order of the data has its own."""
    dtype: Annotated[str, OneOf(("auto", "float32", "bfloat16"))] = "auto"
    """``float32``, ``bfloat16`` (autocast), or ``auto``: bfloat16 where the processor has it."""

"""The training loop: a generator that yields one fact per step.

``for step in train(model, batches, config):`` — the caller logs, evaluates, saves or stops; the loop knows
no tracker, file or clock but the one that measures its own speed.  What is learned is an objective's
``loss(model, batch) → (scalar, facts)``, so pretraining and every kind of fine-tuning share this loop.

Randomness (dropout) is seeded anew at every step from (seed, step): a resumed run draws what the
uninterrupted one would have drawn, and an evaluation between two steps can't disturb it.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gptcore.errors import NonFiniteLossError
from gptcore.objectives import Facts
from gptcore.objectives.next_token import language_loss
from gptcore.optim import Optimizers, build_optimizers, lr_scale
from gptcore.runtime import autocast, keep_large_buffers
from gptcore.train_config import TrainConfig

_KEPT = (
    "expected finite numbers; the weights were not updated. Lower the learning rate, raise warmup_steps or clip the "
    "gradient (grad_clip)."
)

Loss = Callable[[Any, Any], Tensor | tuple[Tensor, Facts]]
"""(model, batch) → scalar loss in nats, alone or with what else there is to say of the batch (`objectives`)."""


@dataclass(frozen=True)
class Step:
    """What one optimizer step did."""

    index: int
    """Optimizer steps taken so far, this one included."""
    loss: float
    """Mean of the batches' losses before the update, in nats (per token for language models)."""
    learning_rate: float
    grad_norm: float
    """Norm of the whole gradient before clipping."""
    seconds: float
    """Wall-clock time of the step, waiting for the batch included."""
    facts: Facts = field(default_factory=dict)
    """What the objective said of the batches, averaged over them."""


def train(
    model: nn.Module,
    batches: Iterable[Any],
    config: TrainConfig,
    *,
    loss: Loss = language_loss,
    optimizers: Optimizers | None = None,
    start_step: int = 0,
) -> Iterator[Step]:
    """Train ``model`` in place; yields a ``Step`` after each update.

    To resume, hand over the restored ``optimizers``, the ``start_step`` they were saved at, and ``batches``
    that start there.  Ends early if the batches do.  Raises ``NonFiniteLossError`` before an update by a loss or a
    gradient that is no finite number, and names the batches.  An update that overflows by itself (a learning rate of
    1e38) is told by the next step's loss, and by `checkpoint.save`, which looks at every weight: to look after every
    step would cost 2 % of a small model's time.
    """
    keep_large_buffers()
    optimizers = optimizers or build_optimizers(model, config)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizers.zero_grad()  # what an earlier loop may have left when its batches ended
    stream = iter(batches)
    for step in range(start_step, config.max_steps):
        started = time.perf_counter()
        scale = lr_scale(config, step, config.max_steps)
        optimizers.set_lr(scale)
        torch.manual_seed(_step_seed(config.seed, step))
        model.train()
        total, facts = 0.0, dict[str, float]()
        for part in range(config.accumulation_steps):
            try:
                batch = next(stream)
            except StopIteration:
                return
            with autocast(config.dtype, parameters[0].device.type):
                value, said = _apart(loss(model, batch))
            _check_loss(config, step, part, nats := value.item())
            (value / config.accumulation_steps).backward()
            total += nats / config.accumulation_steps
            for name, fact in said.items():
                facts[name] = facts.get(name, 0.0) + fact / config.accumulation_steps
            del value  # and the graph that hangs on it, before the next one is built
        norm = nn.utils.clip_grad_norm_(parameters, config.grad_clip or math.inf).item()
        _check_gradient(config, step, total, norm)
        optimizers.step()
        optimizers.zero_grad()
        yield Step(step + 1, total, config.learning_rate * scale, norm, time.perf_counter() - started, facts)


def _apart(told: Tensor | tuple[Tensor, Facts]) -> tuple[Tensor, Facts]:
    return told if isinstance(told, tuple) else (told, {})


def _check_loss(config: TrainConfig, step: int, part: int, loss: float) -> None:
    """Of each batch by itself: of several it is known then which one it was."""
    if not math.isfinite(loss):
        place = f", batch {part + 1} of {config.accumulation_steps}" if config.accumulation_steps > 1 else ""
        number = step * config.accumulation_steps + part
        raise NonFiniteLossError(f"step {step + 1}{place}: loss {loss} nats: {_KEPT}", [number])


def _check_gradient(config: TrainConfig, step: int, loss: float, norm: float) -> None:
    if not math.isfinite(norm):
        first = step * config.accumulation_steps
        numbers = range(first, first + config.accumulation_steps)
        raise NonFiniteLossError(f"step {step + 1}: loss {loss} nats, gradient norm {norm}: {_KEPT}", numbers)


def _step_seed(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) % 2**63

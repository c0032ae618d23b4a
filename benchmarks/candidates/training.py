"""The training step that all peers get, since none of them ships one for a bare model.

AdamW, cross-entropy over all logits, the gradient clipped at 1 and the loss read after every step, as our
loop does.  ``fp32`` is PyTorch's default everywhere; the other settings are bf16 autocast and the fused
AdamW, to which a peer adds what it documents.
"""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.random_data import training_batches
from benchmarks.worker import Unit
from benchmarks.workloads import Workload


def training_unit(
    work: Workload,
    model: nn.Module,
    logits: Callable[[Tensor], Tensor],
    *,
    bf16: bool,
    compiled: bool = False,
) -> Unit:
    """One optimizer step; ``logits`` maps ids (B, T) to (B, T, V)."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True) if bf16 else torch.optim.AdamW(model.parameters())
    stream = cycle(training_batches(work))

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits(x).flatten(0, 1), y.flatten())

    objective = torch.compile(loss_of) if compiled else loss_of

    def unit() -> float:
        x, y = next(stream)
        with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext():
            loss = objective(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        assert loss.isfinite()
        return work.batch * work.tokens

    if compiled:
        unit()  # compiles; that is no step's time
    return unit

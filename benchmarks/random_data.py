"""The data of a workload: random ids, equal in every process, since speed does not depend on what they say."""

import torch
from torch import Tensor

from benchmarks.workloads import Workload

SEED = 0


def training_batches(work: Workload, count: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Random x, y (B, T), y shifted by one."""
    generator = torch.Generator().manual_seed(SEED)
    rows = torch.randint(work.vocab_size, (count, work.batch, work.tokens + 1), generator=generator)
    return [(ids[:, :-1].contiguous(), ids[:, 1:].contiguous()) for ids in rows]


def prompt(work: Workload) -> Tensor:
    """Random ids (B, T)."""
    return torch.randint(work.vocab_size, (work.batch, work.tokens), generator=torch.Generator().manual_seed(SEED))

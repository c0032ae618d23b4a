"""An objective: next-token prediction that keeps the logits' normaliser near one (z-loss; Chowdhery et al., 2022)."""

from typing import Any

from torch import Tensor

from gptcore.data import Batch
from gptcore.objectives.next_token import NextToken

WEIGHT = 1e-4


class Calm(NextToken):
    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        nats, facts = super().loss(model, batch)
        z = model(batch[0]).float().logsumexp(dim=-1)  # (B, T)
        return nats + WEIGHT * z.square().mean(), facts | {"log_z": z.mean().item()}

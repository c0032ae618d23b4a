"""One pre-norm transformer block.  Axes as in `attention.py`."""

from torch import Tensor, nn

from gptcore.config import GPTConfig
from gptcore.model.attention import CausalSelfAttention, KVCache
from gptcore.model.mlp import mlp
from gptcore.model.norm import norm


class Block(nn.Module):
    """Attention and MLP, each on a normalised copy and added back to the residual stream, one after the other or both
    at once."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.parallel = config.residual == "parallel"
        self.ln_1 = norm(config)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = norm(config)
        self.mlp = mlp(config)

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int, turns: Tensor | None = None
    ) -> Tensor:
        y = x + self.attn(self.ln_1(x), mask, cache, layer, turns)
        return y + self.mlp(self.ln_2(x if self.parallel else y))

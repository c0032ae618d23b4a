"""The part of a block that sees each token by itself: GPT-2's, and the gated one of Llama.

Axes as in `attention.py`.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.config import GPTConfig
from gptcore.kernels.swiglu import swiglu


class MLP(nn.Module):
    """Each token by itself: widen, GELU, narrow again."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.fc = nn.Linear(config.d_model, config.mlp_width, bias=config.bias)
        self.gelu = nn.GELU(approximate="tanh" if config.mlp == "gelu" else "none")
        self.proj = nn.Linear(config.mlp_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gelu(self.fc(x))  # (B, T, mlp_width)
        return F.dropout(self.proj(x), self.dropout, self.training)  # (B, T, C)


class SwiGLU(nn.Module):
    """Each token by itself: one half of the channels gates the other (Shazeer, 2020); a matrix gives both."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.fc = nn.Linear(config.d_model, 2 * config.mlp_width, bias=config.bias)
        self.proj = nn.Linear(config.mlp_width, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = swiglu(self.fc(x))  # (B, T, mlp_width)
        return F.dropout(self.proj(x), self.dropout, self.training)  # (B, T, C)


def mlp(config: GPTConfig) -> nn.Module:
    """What ``config.mlp`` names."""
    return SwiGLU(config) if config.gated else MLP(config)

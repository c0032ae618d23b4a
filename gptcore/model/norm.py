"""What normalises the residual stream: LayerNorm or RMSNorm."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.config import GPTConfig


def norm(config: GPTConfig) -> nn.Module:
    """What ``config.norm`` names, over the last axis."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.d_model, eps=config.layer_norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.layer_norm_eps, bias=config.bias)


class HeadNorm(nn.Module):
    """RMSNorm of each head's queries or keys, over its channels (Henry et al., 2020), in float32."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.eps = config.layer_norm_eps
        self.weight = nn.Parameter(torch.ones(config.head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (…, D) → (…, D) in its number format, which under autocast isn't the weight's."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)

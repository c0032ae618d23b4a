"""What normalises the residual stream: LayerNorm or RMSNorm."""

from torch import nn

from gptcore.config import GPTConfig


def norm(config: GPTConfig) -> nn.Module:
    """What ``config.norm`` names, over the last axis."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.d_model, eps=config.layer_norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.layer_norm_eps, bias=config.bias)

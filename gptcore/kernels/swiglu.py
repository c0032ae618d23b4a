"""silu(gate)·up, of which only the two are kept for the backward pass.

Plain operations keep the activation too, a ninth of what a block of SmolLM2 keeps; computing it again is one pass over
memory.  Values and gradients are those of the plain operations to the last bit.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def swiglu(x: Tensor) -> Tensor:
    """x (…, 2·M), the gate's channels first → (…, M) (Shazeer, 2020, eq. 6)."""
    return _SwiGLU.apply(x)  # type: ignore[no-any-return]


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Tensor:
        (x,), (grad,) = ctx.saved_tensors, grads
        gate, up = x.chunk(2, dim=-1)
        return torch.cat([torch.ops.aten.silu_backward(grad * up, gate), grad * F.silu(gate)], dim=-1)

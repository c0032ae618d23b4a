"""A frozen linear layer plus low-rank products in some of its rows, added in place.

Plain operations make each product, put them side by side, and add them: three more tensors as wide as the output, of
which a gated MLP's is five times as wide as the model.  Here nothing that wide is made but the output, and a layer in
bfloat16 keeps no copy of its float32 weights until the backward pass: they are rounded again.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def add_low_rank(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    thin: Tensor,
    wide: Sequence[Tensor],
    rows: Sequence[tuple[int, int]],
    scale: float,
) -> Tensor:
    """x·Wᵀ + b, and ``scale``·t·Bᵀ in the rows of each of the n targets, in the number format of ``x``.

    x (…, in), weight (out, in), thin (…, n·rank) with one t after the other, ``wide`` n matrices B (end - start, rank)
    → (…, out).  ``weight`` and ``bias`` get no gradient.
    """
    return _AddLowRank.apply(x, weight, bias, thin, rows, scale, *wide)  # type: ignore[no-any-return]


def add_(y: Tensor, thin: Tensor, wide: Sequence[Tensor], rows: Sequence[tuple[int, int]], scale: float) -> Tensor:
    """``y`` (…, out) with the products added in place, without gradients."""
    flat = y.view(-1, y.shape[-1])
    for (start, end), t, B in zip(rows, _parts(thin, wide), wide, strict=True):
        flat[:, start:end].addmm_(t.to(y.dtype), B.to(y.dtype).T, alpha=scale)
    return y


class _AddLowRank(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        thin: Tensor,
        rows: Sequence[tuple[int, int]],
        scale: float,
        *wide: Tensor,
    ) -> Tensor:
        ctx.rows, ctx.scale = rows, scale
        ctx.save_for_backward(weight, thin, *wide)
        y = F.linear(x.flatten(0, -2), weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
        return add_(y, thin, wide, rows, scale).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        weight, thin, *wide = ctx.saved_tensors
        grad = grads[0].flatten(0, -2)
        d_x = (grad @ weight.to(grad.dtype)).view(*thin.shape[:-1], -1) if ctx.needs_input_grad[0] else None
        d_thin, d_wide = list[Tensor](), list[Tensor]()
        for (start, end), t, B in zip(ctx.rows, _parts(thin, wide), wide, strict=True):
            of_rows = grad[:, start:end]
            d_thin.append(of_rows @ B.to(grad.dtype))
            d_wide.append((of_rows.T @ t).to(B.dtype).mul_(ctx.scale))
        return d_x, None, None, torch.cat(d_thin, dim=1).mul_(ctx.scale).view(thin.shape), None, None, *d_wide


def _parts(thin: Tensor, wide: Sequence[Tensor]) -> Sequence[Tensor]:
    """(…, n·rank) → n of (tokens, rank)."""
    return thin.flatten(0, -2).chunk(len(wide), dim=1)

"""Causal attention on a CPU, in blocks of queries: matrix products at full speed, no T × T scores in memory.

A block of queries attends to the keys up to its own end, so half of the T × T scores are never computed.
The weights of short texts are kept for the backward pass; those of long ones are computed again, so that
memory grows with T (with dropout with T²: a byte for each weight says whether it was kept).  Three batched
products and a softmax per block is all there is: the products run near the machine's peak, which PyTorch's
fused kernel does not reach on a CPU.

What it earned, milliseconds forward and backward against ``scaled_dot_product_attention`` on two cores
(B·H × T, D = 64): bfloat16 48 × 256 5.5 to 15, 48 × 512 22 to 54, 12 × 2,048 75 to 106; float32 15 to 17,
50 to 63, and 157 to 144.

The G heads of queries that share keys and values are one product of G times the rows.

Axes as in `model/attention.py`; N = B·K.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gptcore.kernels.limits import BLOCK, KEPT
from gptcore.torch_internals import softmax_backward


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q·kᵀ/√D)·v of (B, H, T, D) queries over (B, K, T, D) keys and values, itself and what came before."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    return _CausalAttention.apply(q, k, v, dropout)  # type: ignore[no-any-return]


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        ctx.shapes, ctx.dropout, kept, masks = (q.shape, k.shape), dropout, [], []
        q, k, v = _by_keys(q, k.shape), k.flatten(0, 1), v.flatten(0, 1)  # (N, G, T, D), (N, T, D) twice
        keep = any(ctx.needs_input_grad) and q[..., 0].numel() * q.shape[2] <= KEPT
        y = torch.empty_like(q)
        for start, end in _blocks(q.shape[2]):
            weights = _weights(q, k, start, end)  # (N, G·t, end)
            if keep:
                kept.append(weights)
            if dropout:
                weights, mask = torch.native_dropout(weights, dropout, True)
                masks.append(mask)
            y[:, :, start:end] = (weights @ v[:, :end]).unflatten(1, (q.shape[1], -1))
        ctx.save_for_backward(q, k, v, *kept, *masks)
        return y.view(ctx.shapes[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *others = ctx.saved_tensors
        blocks = _blocks(q.shape[2])
        masks = others[-len(blocks) :] if ctx.dropout else []
        kept = others[: len(others) - len(masks)]
        grad = grads[0].reshape(q.shape)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for number, (start, end) in reversed(list(enumerate(blocks))):
            weights = kept[number] if kept else _weights(q, k, start, end)  # (N, G·t, end)
            dy, dropped = _rows(grad, start, end), weights
            d_weights = dy @ v[:, :end].transpose(1, 2)
            if ctx.dropout:
                mask, scale = masks[number], 1 / (1 - ctx.dropout)
                dropped, d_weights = weights * mask * scale, d_weights * mask * scale
            d_scores = softmax_backward(d_weights, weights)
            dq[:, :, start:end] = (d_scores @ k[:, :end]).unflatten(1, (q.shape[1], -1))
            add = torch.Tensor.copy_ if end == q.shape[2] else torch.Tensor.add_  # the last block comes first
            add(dk[:, :end], d_scores.transpose(1, 2) @ _rows(q, start, end))
            add(dv[:, :end], dropped.transpose(1, 2) @ dy)
        scale = q.shape[-1] ** -0.5
        of_queries, of_keys = ctx.shapes
        return dq.mul_(scale).view(of_queries), dk.mul_(scale).view(of_keys), dv.view(of_keys), None


def _blocks(T: int) -> list[tuple[int, int]]:
    """First query and the one after the last, of each block."""
    return [(start, min(start + BLOCK, T)) for start in range(0, T, BLOCK)]


def _by_keys(q: Tensor, keys: tuple[int, ...]) -> Tensor:
    """(B, H, T, D) → (N, G, T, D): the heads that share keys, together."""
    return q.reshape(keys[0] * keys[1], -1, *q.shape[2:])


def _rows(q: Tensor, start: int, end: int) -> Tensor:
    """The queries ``start`` … ``end`` of all heads that share keys: (N, G, T, D) → (N, G·t, D)."""
    return q[:, :, start:end].flatten(1, 2)


def _weights(q: Tensor, k: Tensor, start: int, end: int) -> Tensor:
    """Attention weights (N, G·t, end) of the queries ``start`` … ``end`` over all keys up to ``end``."""
    future = torch.full((end - start, end), -torch.inf, dtype=q.dtype, device=q.device).triu(start + 1)
    future = future.repeat(q.shape[1], 1) if q.shape[1] > 1 else future
    scale = q.shape[-1] ** -0.5
    return torch.baddbmm(future, _rows(q, start, end), k[:, :end].transpose(1, 2), alpha=scale).softmax(dim=-1)

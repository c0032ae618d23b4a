"""Rotary positions: a query and a key turned by angles that grow with their positions (Su et al., 2021).

Channel d and channel d + D/2 of a head form a plane, which turns by position · θ^(-2d/D): the score of two
tokens then depends on their distance alone.  Pairing the halves of a head, instead of neighbours, is
Llama's convention, so weights go to and from its layout unpermuted.

Angles and products are float32, whatever the activations are: bfloat16 can't tell position 256 from 257.
The table of a whole context is computed once for each shape and device and then only indexed, 3 µs for a
forward pass; a training step of 3.5M parameters takes 3% longer than with learned positions.  Rejected: a
buffer of the model, which its ``to(dtype)`` would round.
"""

from functools import lru_cache

import torch
from torch import Tensor


def rotation(positions: Tensor, head_dim: int, theta: float, context_length: int) -> Tensor:
    """Positions (T) or (B, T), each less than ``context_length`` → cosines and signed sines (2, …, 1, T, D)."""
    table = _table.__wrapped__ if torch.compiler.is_compiling() else _table  # a compiler sees through it
    return table(context_length, head_dim, theta, positions.device)[:, positions].unsqueeze(-3)


def rotate(x: Tensor, by: Tensor) -> Tensor:
    """x (…, B, H, T, D) turned ``by`` what ``rotation`` gave, in x's number format."""
    cos, sin = by
    return (x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin).to(x.dtype)


@lru_cache(maxsize=16)
def _table(length: int, head_dim: int, theta: float, device: torch.device) -> Tensor:
    """(2, S, D): cos and sin, the sines of a head's first half negative (what ``roll`` brings there is -x)."""
    frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2, device=device).float() / head_dim)  # (D/2)
    angles = torch.arange(length, device=device).float()[:, None] * frequencies  # (S, D/2)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)])

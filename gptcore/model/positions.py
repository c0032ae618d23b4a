"""Rotary positions: a query and a key turned by angles that grow with their positions (Su et al., 2021).

Channel d and channel d + D/2 of a head form a plane, which turns by position · θ^(-2d/D): the score of two
tokens then depends on their distance alone.  Pairing the halves of a head, instead of neighbours, is
Llama's convention, so weights go to and from its layout unpermuted.  Where only a share of a head is turned, D is
the width of that share; published models stretch some of the waves over longer texts (`rope_scaling.py`).

Angles and products are float32, whatever the activations are: bfloat16 can't tell position 256 from 257.
The table is computed once for each shape and device, as long as the longest text so far up to a power of two, and
then only indexed, 3 µs for a forward pass; a training step of 3.5M parameters takes 3% longer than with learned
positions.  Rejected: a buffer of the model, which its ``to(dtype)`` would round, and a table of the whole context,
which may be a hundred thousand tokens long.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from gptcore.config import GPTConfig
from gptcore.rope_scaling import RopeScaling


def rotation(config: GPTConfig, positions: Tensor, end: int) -> Tensor:
    """Positions (T) or (B, T), each less than ``end`` → cosines and signed sines (2, …, 1, T, D)."""
    table = _table.__wrapped__ if torch.compiler.is_compiling() else _table  # a compiler sees through it
    length = min(config.context_length, 1 << (end - 1).bit_length())
    found = table(length, config.rotary_dim, config.rope_theta, config.rope_scaling, positions.device)
    return found[:, positions].unsqueeze(-3)


def rotate(x: Tensor, by: Tensor) -> Tensor:
    """x (…, B, H, T, ≥ D) with its first D channels turned ``by`` what ``rotation`` gave, in x's number format."""
    cos, sin = by
    width = cos.shape[-1]
    turned, rest = (x, None) if width == x.shape[-1] else x.split((width, x.shape[-1] - width), dim=-1)
    turned = (turned * cos + turned.roll(width // 2, dims=-1) * sin).to(x.dtype)
    return turned if rest is None else torch.cat([turned, rest], dim=-1)


@lru_cache(maxsize=16)
def _table(length: int, width: int, theta: float, scaling: RopeScaling | None, device: torch.device) -> Tensor:
    """(2, S, D): cos and sin, the sines of the first half negative (what ``roll`` brings there is -x)."""
    frequencies = 1.0 / theta ** (torch.arange(0, width, 2, device=device).float() / width)  # (D/2)
    if scaling is not None:
        frequencies = stretched(frequencies, scaling, theta)
    angles = torch.arange(length, device=device).float()[:, None] * frequencies  # (S, D/2)
    cos, sin = angles.cos(), angles.sin()
    table = torch.stack([torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)])
    return table if scaling is None else table * scaling.attention_factor


def stretched(frequencies: Tensor, scaling: RopeScaling, theta: float) -> Tensor:
    """The frequencies (D/2), in radians a token, of a longer context."""
    return _STRETCH[scaling.kind](frequencies, scaling, theta)


def _linear(frequencies: Tensor, scaling: RopeScaling, theta: float) -> Tensor:
    return frequencies / scaling.factor


def _dynamic(frequencies: Tensor, scaling: RopeScaling, theta: float) -> Tensor:
    return frequencies  # it stretches texts beyond the context only


def _llama3(frequencies: Tensor, scaling: RopeScaling, theta: float) -> Tensor:
    """Long waves are stretched, short ones not, and those between partly (Grattafiori et al., 2024)."""
    turns = scaling.original * frequencies / (2 * math.pi)  # in the original context
    share = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    return _between(frequencies / scaling.factor, frequencies, share.clamp(0, 1))


def _yarn(frequencies: Tensor, scaling: RopeScaling, theta: float) -> Tensor:
    """The same by channels instead of turns: a ramp between two of them (Peng et al., 2023, §3.2)."""
    width = 2 * len(frequencies)
    low, high = (
        width * math.log(scaling.original / (2 * math.pi * turns)) / (2 * math.log(theta))
        for turns in (scaling.beta_fast, scaling.beta_slow)
    )
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    channels = torch.arange(width // 2, device=frequencies.device).float()
    stretched = ((channels - low) / (high - low or 0.001)).clamp(0, 1)
    return _between(frequencies / scaling.factor, frequencies, 1 - stretched)


def _between(zero: Tensor, one: Tensor, share: Tensor) -> Tensor:
    return (1 - share) * zero + share * one


_STRETCH = {"linear": _linear, "dynamic": _dynamic, "llama3": _llama3, "yarn": _yarn}

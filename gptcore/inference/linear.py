"""Matrices for a model that only computes forward: laid out for oneDNN, or rounded to int8.

int8 is weight-only: each row of a matrix by its own scale, symmetric, the sums in float32 (as LLM.int8 without
outliers; Dettmers et al., 2022).  Its kernel is made for few rows; prompts are multiplied in bfloat16, or where that is
slow in float32: without bfloat16 instructions 64 tokens of SmolLM2 took 1.2 s.
The plain reference of both is ``F.linear`` with the same numbers (tests/gptcore/inference).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.runtime import has_fast_bfloat16
from gptcore.torch_internals import can_pack, int8_linear, pack, packed_linear

FEW = 8
"""Most rows (tokens of all texts in a batch) for which the int8 kernel is the fastest."""


class PackedLinear(nn.Module):
    """x·Wᵀ + b in W's number format, with W laid out for oneDNN where there is oneDNN."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.dtype = weight.dtype
        self.bias = bias.to(self.dtype, copy=True) if bias is not None else None
        self.activation = ("none", "")
        self.packed = weight.device.type == "cpu" and can_pack(weight.dtype)
        if self.packed:
            self.weight: Tensor = pack(weight)
        else:
            self.weight = weight.clone()

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if not self.packed:
            return F.linear(x, self.weight, self.bias)
        return packed_linear(x, self.weight, self.bias, self.activation)


class Int8Linear(nn.Module):
    """x·Wᵀ + b with W as int8, a scale for each of its rows, and x in bfloat16, or float32 where that is faster."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        largest = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
        scale = (largest / 127).to(torch.bfloat16)  # first rounded, then divided by: no error of its own
        self.weight = (weight / scale.float()).round().clamp(-127, 127).to(torch.int8)
        self.scale = scale[:, 0]
        self.bias = bias.to(torch.bfloat16, copy=True) if bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) <= FEW:
            y = int8_linear(rows.to(torch.bfloat16).contiguous(), self.weight, self.scale)
        else:
            dtype = torch.bfloat16 if has_fast_bfloat16(x.device.type) else torch.float32
            y = (rows.to(dtype) @ self.weight.to(dtype).T) * self.scale
        y = y.view(*x.shape[:-1], len(self.weight))
        return y if self.bias is None else y + self.bias

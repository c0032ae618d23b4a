"""Functions of PyTorch that are not public, all of them, each with what is done where it is missing.

They are worth it: weights laid out for oneDNN generate 1.5 to 1.7 times as fast, the int8 product reads half of
bfloat16's bytes, and nothing public says whether a processor has bfloat16 instructions.  They may change with any
release.  Known to work with PyTorch 2.13 (the lock's); another version that lacks one takes the plain way, which
gives the same numbers up to rounding.
"""

from typing import Any

import torch
from torch import Tensor

_INSTRUCTIONS = {
    "AVX2": "_is_avx2_supported",
    "AVX-512": "_is_avx512_supported",
    "AVX-512 BF16": "_is_avx512_bf16_supported",
    "VNNI": "_is_vnni_supported",
    "AMX": "_is_amx_tile_supported",
    "AMX FP16": "_is_amx_fp16_supported",
}


def cpu_instructions() -> tuple[str, ...]:
    """The sets of vector instructions that the processor has; empty where PyTorch can't tell."""
    cpu: Any = torch.cpu
    return tuple(name for name, probe in _INSTRUCTIONS.items() if hasattr(cpu, probe) and getattr(cpu, probe)())


def can_pack(dtype: torch.dtype) -> bool:
    """Whether ``pack`` and ``packed_linear`` are there and oneDNN multiplies in this number format here."""
    if not torch.backends.mkldnn.is_available() or not _has(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if not _has(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.float32:
        return True
    return _has(torch.ops.mkldnn, "_is_mkldnn_bf16_supported") and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack(weight: Tensor) -> Tensor:
    """The matrix (out, in) in the blocks in which oneDNN reads it for one row; only for ``packed_linear``."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1)  # type: ignore[no-any-return]


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None, activation: tuple[str, str]) -> Tensor:
    """x·Wᵀ + b with a packed W, and an activation such as ``("gelu", "tanh")`` or ``("none", "")`` applied to it."""
    kind, variant = activation
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, kind, [], variant)  # type: ignore[no-any-return]


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x (N, in) in bfloat16 times int8 rows (out, in), each by its scale.

    The kernel reads rows of whole vectors, 32 numbers, and does not check that.
    """
    if x.device.type == "cpu" and weight.shape[1] % 32 == 0 and _has(torch.ops.aten, "_weight_int8pack_mm"):
        return torch.ops.aten._weight_int8pack_mm(x, weight, scale)
    return (x @ weight.to(x.dtype).T) * scale


def softmax_backward(grad: Tensor, output: Tensor) -> Tensor:
    """The gradient of softmax over the last axis, from the gradient of its ``output``."""
    if _has(torch.ops.aten, "_softmax_backward_data"):
        return torch.ops.aten._softmax_backward_data(grad, output, -1, output.dtype)
    product = grad * output
    return product - output * product.sum(dim=-1, keepdim=True)


def _has(namespace: Any, name: str) -> bool:
    return hasattr(namespace, name)

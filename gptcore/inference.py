"""A model that only computes forward, as fast as the memory delivers its weights.

Generating one token reads every weight once and does little else, so two things count: how few bytes the
weights have, and how they lie in memory.  ``for_inference`` copies a model into float32, bfloat16 or int8
weights, and lays the matrices of the first two out once in the blocks in which oneDNN reads them (0.04 s for
GPT-2).  Embeddings, norms and the residual stream stay float32, as in training under autocast.

What it earned: GPT-2 (124M), all matrices over one token on two cores, milliseconds plain → laid out: float32
24.6 → 14.2, bfloat16 9.1 → 6.1; int8 3.8.  Over 512 tokens: float32 387 → 185, bfloat16 94 → 90.  What int8
costs in bits/byte is in docs/benchmarks.md.

int8 is weight-only: each row of a matrix by its own scale, symmetric, the sums in float32 (as LLM.int8 without
outliers; Dettmers et al., 2022).  Its kernel is made for few rows; prompts are multiplied in bfloat16.

Rejected: ``torch.compile``, which comes near the same layout but needs a compiler and half a minute; huge
pages for the weights, which changed nothing.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.model import GPT, MLP
from gptcore.runtime import has_fast_bfloat16

DTYPES = ("auto", "float32", "bfloat16", "int8")
FEW = 8
"""Most rows (tokens of all texts in a batch) for which the int8 kernel is the fastest."""


def for_inference(model: GPT, dtype: str = "auto") -> GPT:
    """A copy of ``model`` for `generate.py`, on the same device; the original is left alone.

    ``dtype`` of the matrices: float32, bfloat16, int8 or ``auto``: bfloat16 where that is fast.  The copy has no
    gradients and cannot be saved.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype = {dtype!r}: expected one of {', '.join(DTYPES)}")
    if any(isinstance(module, PackedLinear | Int8Linear) for module in model.modules()):
        raise ValueError("model: expected one with its own weights, found a copy for inference; start from the former")
    device = model.token_embedding.weight.device
    if dtype == "auto":
        dtype = "bfloat16" if has_fast_bfloat16(device.type) else "float32"
    copy = deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})  # all are replaced below
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            copy.set_submodule(name, _matrix(module, dtype))
        else:
            for key, parameter in module.named_parameters(recurse=False):
                values = parameter.detach().float().clone()
                setattr(copy.get_submodule(name), key, nn.Parameter(values, requires_grad=False))
    for module in copy.modules():
        if isinstance(module, MLP):
            _fuse_gelu(module)
    return copy.eval()


def _matrix(linear: nn.Linear, dtype: str) -> nn.Module:
    weight, bias = linear.weight.detach(), linear.bias.detach() if linear.bias is not None else None
    if dtype == "int8":
        return Int8Linear(weight.float(), bias)
    return PackedLinear(weight.to(getattr(torch, dtype)), bias)


def _fuse_gelu(mlp: MLP) -> None:
    """Let the first matrix apply the activation to what it has at hand."""
    if isinstance(mlp.fc, PackedLinear) and mlp.fc.packed:
        mlp.fc.activation, mlp.gelu = ("gelu", "tanh"), nn.Identity()  # type: ignore[assignment]


class PackedLinear(nn.Module):
    """x·Wᵀ + b in W's number format, with W laid out for oneDNN where there is oneDNN."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.dtype = weight.dtype
        self.bias = bias.to(self.dtype, copy=True) if bias is not None else None
        self.activation = ("none", "")
        self.packed = weight.device.type == "cpu" and _can_lay_out(weight.dtype)
        if self.packed:
            self.weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1)
        else:
            self.weight = weight.clone()

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if not self.packed:
            return F.linear(x, self.weight, self.bias)
        kind, variant = self.activation
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, kind, [], variant)  # type: ignore[no-any-return]


def _can_lay_out(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and multiplies in this number format on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Int8Linear(nn.Module):
    """x·Wᵀ + b with W as int8, a scale for each of its rows, and x in bfloat16."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        largest = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
        scale = (largest / 127).to(torch.bfloat16)  # first rounded, then divided by: no error of its own
        self.weight = (weight / scale.float()).round().clamp(-127, 127).to(torch.int8)
        self.scale = scale[:, 0]
        self.bias = bias.to(torch.bfloat16, copy=True) if bias is not None else None
        whole_vectors = weight.shape[1] % 32 == 0  # the kernel reads no others, and does not check
        self.few = FEW if whole_vectors and weight.device.type == "cpu" else 0

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16).contiguous()
        if len(rows) <= self.few:
            y = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scale)
        else:
            y = (rows @ self.weight.to(torch.bfloat16).T) * self.scale
        y = y.view(*x.shape[:-1], len(self.weight))
        return y if self.bias is None else y + self.bias

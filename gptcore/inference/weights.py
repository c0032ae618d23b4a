"""A model that only computes forward, as fast as the memory delivers its weights.

Generating one token reads every weight once and does little else, so two things count: how few bytes the
weights have, and how they lie in memory.  ``for_inference`` copies a model into float32, bfloat16 or int8
weights, and lays the matrices of the first two out once in the blocks in which oneDNN reads them (0.04 s for
GPT-2).  In int8 the tokens of a single text go through `one_token.py`.  Embeddings, norms and the residual stream stay
float32, as in training under autocast.

What it earned: GPT-2 (124M), all matrices over one token on two cores, milliseconds plain → laid out: float32
24.6 → 14.2, bfloat16 9.1 → 6.1; int8 3.8.  Over 512 tokens: float32 387 → 185, bfloat16 94 → 90.  What int8
costs in bits/byte is in docs/benchmarks.md.

Rejected: ``torch.compile``, which comes near the same layout but needs a compiler and half a minute; huge
pages for the weights, which changed nothing.
"""

from copy import deepcopy

import torch
from torch import nn

from gptcore.inference.linear import Int8Linear, PackedLinear
from gptcore.model import GPT
from gptcore.model.mlp import MLP
from gptcore.runtime import has_fast_bfloat16

DTYPES = ("auto", "float32", "bfloat16", "int8")


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
    if dtype == "int8" and device.type == "cpu":
        from gptcore.inference.one_token import OneToken  # numba is loaded where it is needed

        copy.step = OneToken(copy)
    return copy.eval()


def _matrix(linear: nn.Linear, dtype: str) -> nn.Module:
    weight, bias = linear.weight.detach(), linear.bias.detach() if linear.bias is not None else None
    if dtype == "int8":
        return Int8Linear(weight.float(), bias)
    return PackedLinear(weight.to(getattr(torch, dtype)), bias)


def _fuse_gelu(mlp: MLP) -> None:
    """Let the first matrix apply the activation to what it has at hand."""
    if isinstance(mlp.fc, PackedLinear) and mlp.fc.packed:
        mlp.fc.activation, mlp.gelu = ("gelu", mlp.gelu.approximate), nn.Identity()  # type: ignore[assignment]

"""The gated activation against PyTorch's plain operations, value and gradient, and what it keeps."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gptcore.kernels.swiglu import swiglu

SHAPES = [(2, 3, 8), (5, 2), (1, 4, 96), (2, 3, 4, 10)]


def plain(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_it_is_the_plain_operations_to_the_last_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = (4 * torch.randn(shape)).to(dtype)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, exact = swiglu(mine), plain(theirs)
    assert torch.equal(found, exact)
    grad = torch.randn(exact.shape).to(dtype)
    found.backward(grad)
    exact.backward(grad)
    assert torch.equal(mine.grad, theirs.grad)


def test_its_gradients_are_its_slopes() -> None:
    x = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(swiglu, x)


def test_it_keeps_its_input_alone() -> None:
    x, kept = torch.randn(2, 6, requires_grad=True), []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        swiglu(x)
    assert kept == [x.data_ptr()]


def test_without_gradients_it_is_the_same() -> None:
    x = torch.randn(2, 6)
    with torch.inference_mode():
        assert torch.equal(swiglu(x), plain(x))

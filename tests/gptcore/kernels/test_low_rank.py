"""Low-rank products added to a frozen layer, against the plain operations: value, gradients, and what is kept."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gptcore.kernels.low_rank import add_low_rank

ROWS = [(0, 4), (6, 8), (8, 11)]
"""Of 12: with gaps between the targets and after them."""
SCALE = 0.75


def arguments(dtype: torch.dtype, *, bias: bool = True) -> list[Tensor]:
    """x, W, b, t and the matrices B, of rank 2."""
    shapes = [(2, 3, 5), (12, 5), (12,), (2, 3, 6), *((end - start, 2) for start, end in ROWS)]
    made = [torch.randn(shape, dtype=dtype) for shape in shapes]
    for place, tensor in enumerate(made):
        tensor.requires_grad_(place not in (1, 2))
    return made if bias else [*made[:2], None, *made[3:]]  # type: ignore[list-item]


def fused(x: Tensor, weight: Tensor, bias: Tensor | None, thin: Tensor, *wide: Tensor) -> Tensor:
    return add_low_rank(x, weight, bias, thin, wide, ROWS, SCALE)


def plain(x: Tensor, weight: Tensor, bias: Tensor | None, thin: Tensor, *wide: Tensor) -> Tensor:
    y = F.linear(x, weight, bias)
    for (start, end), t, B in zip(ROWS, thin.chunk(3, dim=-1), wide, strict=True):
        y = y + F.pad(SCALE * t @ B.T, (start, 12 - end))
    return y


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_it_is_the_plain_operations(bias: bool) -> None:
    mine = arguments(torch.float64, bias=bias)
    theirs = [given if given is None else given.detach().clone().requires_grad_(given.requires_grad) for given in mine]
    found, exact = fused(*mine), plain(*theirs)
    torch.testing.assert_close(found, exact)
    grad = torch.randn(found.shape, dtype=torch.float64)
    found.backward(grad)
    exact.backward(grad)
    for place in (0, *range(3, 3 + 1 + len(ROWS))):
        torch.testing.assert_close(mine[place].grad, theirs[place].grad)


def test_its_gradients_are_its_slopes() -> None:
    assert torch.autograd.gradcheck(fused, arguments(torch.float64))


def test_a_first_layer_needs_no_gradient_of_its_input() -> None:
    x, *others = arguments(torch.float64)
    fused(x.detach(), *others).sum().backward()
    assert x.grad is None
    assert all(tensor.grad is not None for tensor in others[2:])


def test_in_bfloat16_the_weights_stay_what_they_are_and_no_copy_is_kept() -> None:
    made = arguments(torch.float32)
    x, weight, bias, thin, *wide = made
    kept = list[Tensor]()

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = fused(x.bfloat16(), weight, bias, thin.bfloat16(), *wide)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), plain(*made), rtol=0.02, atol=0.1)
    mine = {tensor.data_ptr() for tensor in (weight, *wide)}
    assert [tensor.dtype for tensor in kept if tensor.data_ptr() not in mine] == [torch.bfloat16]  # t
    y.sum().backward()
    assert {tensor.grad.dtype for tensor in (x, thin, *wide)} == {torch.float32}


def test_an_input_in_another_order_of_axes() -> None:
    made = arguments(torch.float64)
    x = torch.randn(3, 2, 5, dtype=torch.float64).transpose(0, 1)
    torch.testing.assert_close(fused(x, *made[1:]), plain(x, *made[1:]))

"""Attention in blocks against the formula on the whole T × T matrix, value and gradients, in whatever blocks it works.

Dropout draws its own mask, so the tests first read it off: with the unit matrix for values, the output *is* the
matrix of dropped weights.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gptcore.kernels import causal_attention as kernel
from gptcore.kernels.causal_attention import causal_attention

Layout = tuple[int, int, int, int]
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
layouts = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 19), st.integers(1, 9))
"""(B, H, T, D)"""
blocks = st.sampled_from([1, 3, 4, 7, 128])
kept = st.sampled_from([0, 10**9])


def example(layout: Layout, seed: int = 0, dtype: torch.dtype = torch.float64, size: float = 1.0) -> list[Tensor]:
    """Queries, keys and values as the model has them: views of one tensor (B, T, 3, H, D), none contiguous."""
    B, H, T, D = layout
    generator = torch.Generator().manual_seed(seed)
    qkv = size * torch.randn(B, T, 3, H, D, generator=generator, dtype=torch.float64)
    return [part.detach().requires_grad_() for part in qkv.to(dtype).permute(2, 0, 3, 1, 4)]


def weights_by_the_formula(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q·kᵀ/√D) with the keys after the query left out, (B, H, T, T)."""
    later = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1)
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    return scores.masked_fill(later, -torch.inf).softmax(dim=-1)


def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return weights_by_the_formula(q, k) @ v


def value_and_gradients(attention, tensors: list[Tensor], seed: int = 1) -> list[Tensor]:
    """The output and the gradients of a random weighting of it, which comes as a view, as in the model."""
    y = attention(*tensors)
    B, H, T, D = y.shape
    weighting = torch.randn(B, T, H, D, generator=torch.Generator().manual_seed(seed)).to(y.dtype).transpose(1, 2)
    return [y.detach(), *torch.autograd.grad(y, tensors, weighting)]


def assert_equal_within(found: list[Tensor], expected: list[Tensor], tolerance: float, least: float = 1e-3) -> None:
    """Each relative to the largest of its kind, which counts as ``least`` at least: differences of larger numbers."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= tolerance * max(theirs.abs().max().item(), least)


@few
@given(layouts, blocks, kept, st.integers(0, 99), st.sampled_from([0.1, 1.0, 8.0]))
def test_it_is_the_formula(monkeypatch, layout: Layout, block: int, keep: int, seed: int, size: float):
    monkeypatch.setattr(kernel, "BLOCK", block)
    monkeypatch.setattr(kernel, "KEPT", keep)
    exact = value_and_gradients(formula, example(layout, seed, size=size))
    assert_equal_within(value_and_gradients(causal_attention, example(layout, seed, size=size)), exact, 1e-12)
    found = value_and_gradients(causal_attention, example(layout, seed, torch.float32, size))
    assert [t.dtype for t in found] == [torch.float32] * 4
    rounding = 1e-5 if size <= 1 else 4e-5  # scores grow with its square: the formula itself errs by 1.6e-5 in float32
    assert_equal_within([t.double() for t in found], exact, rounding, least=size)


@few
@given(layouts, blocks, kept, st.integers(0, 99))
def test_it_is_pytorchs_kernel(monkeypatch, layout: Layout, block: int, keep: int, seed: int):
    monkeypatch.setattr(kernel, "BLOCK", block)
    monkeypatch.setattr(kernel, "KEPT", keep)
    theirs = value_and_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), example(layout, seed, torch.float32)
    )
    found = value_and_gradients(causal_attention, example(layout, seed, torch.float32))
    # of one token the gradients of queries and keys are 0, theirs the rounding of a sum of terms of up to 10: 1e-6
    assert_equal_within(found, theirs, 1e-4, least=0.1)


@pytest.mark.parametrize("keep", [0, 10**9])
@pytest.mark.parametrize("T", [1, 127, 128, 129, 300])
def test_at_its_own_block_size_it_is_the_formula(monkeypatch, T: int, keep: int):
    monkeypatch.setattr(kernel, "KEPT", keep)
    assert kernel.BLOCK == 128, "the lengths here stand around one and two blocks"
    exact = value_and_gradients(formula, example((2, 2, T, 16)))
    assert_equal_within(value_and_gradients(causal_attention, example((2, 2, T, 16))), exact, 1e-12)


def test_keeping_the_weights_changes_no_bit(monkeypatch):
    """So the limit is free to follow the memory."""
    results = []
    for keep in (0, 10**9):
        monkeypatch.setattr(kernel, "KEPT", keep)
        results.append(value_and_gradients(causal_attention, example((2, 3, 150, 8), dtype=torch.float32)))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 6), st.integers(1, 3)),
    st.sampled_from([1, 2, 4]),
    kept,
    st.sampled_from([0.0, 0.4]),
)
def test_its_gradients_are_its_slopes(monkeypatch, layout: Layout, block: int, keep: int, dropout: float):
    """By finite differences in fp64: the forward pass is the only reference, dropout included."""
    monkeypatch.setattr(kernel, "BLOCK", block)
    monkeypatch.setattr(kernel, "KEPT", keep)

    def seeded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(3)
        return causal_attention(q, k, v, dropout)

    assert torch.autograd.gradcheck(seeded, example(layout))


@pytest.mark.parametrize("keep", [0, 10**9])
@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropout_drops_weights_and_scales_the_rest(monkeypatch, dropout: float, keep: int):
    T, D = 40, 48
    monkeypatch.setattr(kernel, "BLOCK", 16)
    monkeypatch.setattr(kernel, "KEPT", keep)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(5)
        return causal_attention(q, k, v, dropout)

    q, k, v = example((2, 3, T, D))
    unit = torch.eye(T, D, dtype=torch.float64).expand(2, 3, T, D)
    dropped = ours(q, k, unit)[..., :T].detach()  # (B, H, T, T)
    mask = dropped != 0
    below = torch.ones(T, T, dtype=torch.bool).tril().expand_as(mask)
    assert mask[below].double().mean().item() == pytest.approx(1 - dropout, abs=0.03)
    assert len({tuple(row.tolist()) for row in mask[:, :, -1].flatten(0, 1)}) == 6, "each head its own mask"

    def by_the_formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (weights_by_the_formula(q, k) * mask / (1 - dropout)) @ v

    torch.testing.assert_close(dropped, by_the_formula(q, k, unit)[..., :T].detach())
    exact = value_and_gradients(by_the_formula, [q, k, v])
    assert_equal_within(value_and_gradients(ours, [q, k, v]), exact, 1e-12)


@pytest.mark.parametrize("keep", [0, 10**9])
@pytest.mark.parametrize("T", [9, 40])
def test_in_bfloat16_it_is_as_near_as_the_format_allows(monkeypatch, T: int, keep: int):
    """8 bits: the values within 1 % of the largest, the gradients, of more products, within 2 %."""
    monkeypatch.setattr(kernel, "BLOCK", 16)
    monkeypatch.setattr(kernel, "KEPT", keep)
    rounded = example((2, 3, T, 16), dtype=torch.bfloat16)
    exact = value_and_gradients(formula, [t.detach().double().requires_grad_() for t in rounded])
    found = value_and_gradients(causal_attention, rounded)
    assert [t.dtype for t in found] == [torch.bfloat16] * 4
    assert_equal_within([found[0].double()], exact[:1], 0.01)
    assert_equal_within([t.double() for t in found[1:]], exact[1:], 0.02)


def test_scores_of_any_size_stay_finite():
    q, k, v = example((1, 2, 20, 8), dtype=torch.float32, size=200.0)
    found = value_and_gradients(causal_attention, [q, k, v])
    assert all(torch.isfinite(t).all() for t in found)
    torch.testing.assert_close(found[0], formula(q, k, v).detach(), rtol=1e-4, atol=1e-2)


def test_a_second_backward_pass_gives_the_same_gradients_where_the_graph_is_kept():
    tensors = example((2, 2, 9, 4))
    total = causal_attention(*tensors).square().sum()
    first = torch.autograd.grad(total, tensors, retain_graph=True)
    again = torch.autograd.grad(total, tensors)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(total, tensors)


def test_a_second_derivative_is_refused():
    """It would take the kept weights for constants."""
    q, k, v = example((1, 1, 5, 3))
    (gradient,) = torch.autograd.grad(causal_attention(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.square().sum(), q)


def test_without_gradients_it_keeps_no_weights_and_gives_the_same_values():
    tensors = example((2, 2, 9, 4))
    with torch.no_grad():
        assert torch.equal(causal_attention(*tensors), causal_attention(*tensors).detach())
        assert causal_attention(*tensors).grad_fn is None
    assert torch.equal(causal_attention(*tensors).detach(), causal_attention(*[t.detach() for t in tensors]))


@few
@given(layouts, st.integers(2, 4), blocks, kept, st.integers(0, 99), st.sampled_from([0.0, 0.5]))
def test_heads_that_share_keys_are_the_same_as_heads_with_copies_of_them(
    monkeypatch, layout: Layout, groups: int, block: int, keep: int, seed: int, dropout: float
):
    """Gradients of the shared keys and values are the sums of those of the copies."""
    monkeypatch.setattr(kernel, "BLOCK", block)
    monkeypatch.setattr(kernel, "KEPT", keep)
    B, K, T, D = layout
    _, k, v = example(layout, seed)
    (q, _, _) = example((B, K * groups, T, D), seed + 1)

    def copied(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(seed)
        return causal_attention(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), dropout)

    def shared(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(seed)
        return causal_attention(q, k, v, dropout)

    if dropout and block < T:
        return  # the masks of several blocks are drawn in another order
    assert_equal_within(value_and_gradients(shared, [q, k, v]), value_and_gradients(copied, [q, k, v]), 1e-12)

"""The chunked cross-entropy against PyTorch's, value and both gradients, in whatever chunks it works."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gptcore.kernels import cross_entropy
from gptcore.kernels.cross_entropy import IGNORE, next_token_loss, token_nats

B, T, C, V = 3, 7, 20, 53


def example(ignored: str = "none") -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(B, T, C, generator=generator)
    weight = torch.randn(V, C, generator=generator)
    targets = torch.randint(V, (B, T), generator=generator)
    if ignored == "some":
        targets[0, :3], targets[2] = IGNORE, IGNORE
    if ignored == "all":
        targets[:] = IGNORE
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy((hidden @ weight.T).float().view(-1, len(weight)), targets.reshape(-1))


def value_and_gradients(loss, example: tuple[Tensor, Tensor, Tensor], scale: float = 1.0) -> list[Tensor]:
    value = loss(*example)
    return [value.detach(), *torch.autograd.grad(value * scale, example[:2])]


PADDED = 64
"""Columns of the logits of a vocabulary of 53."""


def in_pieces(monkeypatch: Any, group: int, chunk: int, width: int = PADDED) -> None:
    """Groups of ``group`` rows at most, taken ``chunk`` rows at a time."""
    monkeypatch.setattr(cross_entropy, "GROUP_LOGITS", group * width + width // 2)
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", chunk * width + width // 2)


@pytest.mark.parametrize("group", [1, 5, 20, 21, 22, 10_000])
@pytest.mark.parametrize("chunk", [1, 4, 21, 10_000])
@pytest.mark.parametrize("ignored", ["none", "some"])
def test_it_is_cross_entropy(monkeypatch, group: int, chunk: int, ignored: str):
    in_pieces(monkeypatch, group, chunk)
    found = value_and_gradients(next_token_loss, example(ignored))
    for ours, theirs in zip(found, value_and_gradients(plain, example(ignored)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.integers(1, 40),
    n_vocab=st.sampled_from([1, 2, 53, 63, 64, 65, 127, 128, 200]),
    channels=st.integers(1, 24),
    group=st.integers(1, 45),
    chunk=st.integers(1, 45),
    ignored=st.sampled_from([0.0, 0.3, 0.95]),
    size=st.sampled_from([0.1, 1.0, 10.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
def test_it_is_cross_entropy_for_every_shape(
    monkeypatch, tokens, n_vocab, channels, group, chunk, ignored, size, dtype, seed
):
    """The reference computes on all logits at once, in float64; large logits bring very unlikely targets."""
    in_pieces(monkeypatch, group, chunk, width=-(-n_vocab // 64) * 64)
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = (
        torch.randn(tokens, channels, generator=generator),
        torch.randn(n_vocab, channels, generator=generator),
    )
    targets = torch.randint(n_vocab, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < ignored] = IGNORE
    targets[0] = n_vocab - 1  # beside the padding; and one token counts
    exact = value_and_gradients(
        plain_in_float64, ((size * hidden).double().requires_grad_(), weight.double().requires_grad_(), targets)
    )
    ours = ((size * hidden).to(dtype)[None].requires_grad_(), weight.to(dtype).requires_grad_(), targets[None])
    found = value_and_gradients(next_token_loss, ours)
    assert [t.dtype for t in found] == [torch.float32, dtype, dtype]
    band = 2e-6 if size <= 1 else 5e-6  # logits of a hundred are rounded at 8e-6
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(
            one.double().view_as(other), other, rtol=2e-5, atol=band * max(1.0, other.abs().max().item())
        )


def plain_in_float64(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(hidden @ weight.T, targets)


@pytest.mark.parametrize("gap", [20.0, 60.0, 68.0, 70.0, 88.0, 104.0, 500.0, 3e4])
def test_an_unlikely_target_costs_its_exact_nats(gap: float):
    """A probability of exp(-104) is 0 in float32; the logarithm of the target is -104 all the same."""
    hidden = torch.tensor([[[1.0], [1.0]]], requires_grad=True)  # (1, 2, 1)
    weight = torch.tensor([[gap], [0.0], [-gap]], requires_grad=True)
    loss = next_token_loss(hidden, weight, torch.tensor([[1, 0]]))
    assert loss.item() == pytest.approx(gap / 2, rel=1e-6)
    loss.backward()
    torch.testing.assert_close(hidden.grad, torch.tensor([[[gap / 2], [0.0]]]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weight.grad, torch.tensor([[0.5], [-0.5], [0.0]]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_counted_token_without_a_number_gives_none_and_an_ignored_one_does_no_harm(value: float):
    hidden, weight, targets = example()
    with torch.no_grad():
        hidden[1, 2] = value
    assert torch.isnan(next_token_loss(hidden, weight, targets))
    targets[1, 2] = IGNORE
    assert torch.isfinite(next_token_loss(hidden, weight, targets))


def test_a_second_backward_pass_is_refused():
    """The gradients are computed once and handed over: a second pass has nothing to give, and says so."""
    hidden, weight, targets = example()
    loss = next_token_loss(hidden, weight, targets)
    loss.backward(retain_graph=True)
    expected = hidden.grad.clone(), weight.grad.clone()
    with pytest.raises((RuntimeError, ValueError)):
        loss.backward()
    assert torch.equal(hidden.grad, expected[0])
    assert torch.equal(weight.grad, expected[1])


def test_gradients_of_several_losses_add_up():
    """As with accumulation: what is handed over belongs to the parameter, and no later loss writes into it."""
    hidden, weight, targets = example()
    expected = [2 * g for g in value_and_gradients(plain, (hidden, weight, targets))[1:]]
    for _ in range(2):
        next_token_loss(hidden, weight, targets).backward()
    torch.testing.assert_close(hidden.grad, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weight.grad, expected[1], rtol=1e-5, atol=1e-6)


def test_the_example_has_gradients_to_speak_of():
    """Else the comparisons above would pass with zeros."""
    value, *gradients = value_and_gradients(next_token_loss, example("some"))
    assert value > 1
    assert all(gradient.abs().max() > 0.05 for gradient in gradients)


@pytest.mark.parametrize("name", ["CHUNK_LOGITS", "GROUP_LOGITS"])
def test_less_room_than_one_row_of_logits_still_works(monkeypatch, name: str):
    monkeypatch.setattr(cross_entropy, name, 1)
    assert next_token_loss(*example()).item() == pytest.approx(plain(*example()).item(), rel=1e-5)


def test_ignored_tokens_have_no_gradient():
    hidden, weight, targets = example("some")
    (gradient,) = torch.autograd.grad(next_token_loss(hidden, weight, targets), hidden)
    assert ((gradient.abs().sum(-1) > 0) == (targets != IGNORE)).all()


def test_without_a_counted_token_loss_and_gradients_are_zero():
    for tensor in value_and_gradients(next_token_loss, example("all")):
        assert (tensor == 0).all()


def test_the_gradient_scales_with_what_is_made_of_the_loss():
    for ours, theirs in zip(
        value_and_gradients(next_token_loss, example(), scale=-2.5),
        value_and_gradients(plain, example(), scale=-2.5),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frozen", ["hidden", "weight", "both"])
def test_frozen_parts_get_no_gradient(frozen: str):
    hidden, weight, targets = example()
    hidden.requires_grad_(frozen not in ("hidden", "both"))
    weight.requires_grad_(frozen not in ("weight", "both"))
    loss = next_token_loss(hidden, weight, targets)
    assert loss.requires_grad == (frozen != "both")
    if frozen != "both":
        loss.backward()
    expected = value_and_gradients(plain, example())
    for tensor, gradient, name in ((hidden, expected[1], "hidden"), (weight, expected[2], "weight")):
        if frozen in (name, "both"):
            assert tensor.grad is None
        else:
            torch.testing.assert_close(tensor.grad, gradient, rtol=1e-5, atol=1e-6)


def test_a_tied_matrix_gets_both_of_its_gradients():
    """The head's matrix is the embedding too: the gradients of both uses add up."""
    table = torch.randn(V, C, requires_grad=True)
    ids, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
    (ours,) = torch.autograd.grad(next_token_loss(F.embedding(ids, table), table, targets), table)
    (theirs,) = torch.autograd.grad(plain(F.embedding(ids, table), table, targets), table)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_without_gradients_the_value_is_the_same():
    with torch.no_grad():
        assert next_token_loss(*example()).item() == pytest.approx(plain(*example()).item(), rel=1e-6)


@pytest.mark.parametrize("group", [5, 10_000])
@pytest.mark.parametrize("ignored", ["none", "some"])
def test_in_bfloat16_it_is_as_near_as_pytorch_is(monkeypatch, ignored: str, group: int):
    """bf16 has 8 bits: both stay within about 1 % of fp32, gradients relative to the largest of them."""
    in_pieces(monkeypatch, group, chunk=3)
    exact = value_and_gradients(plain, example(ignored))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradients(next_token_loss, example(ignored))
    assert [t.dtype for t in found] == [torch.float32] * 3
    for ours, theirs in zip(found, exact, strict=True):
        assert (ours - theirs).abs().max() < 0.015 * theirs.abs().max()
    assert found[0] != exact[0], "autocast was off"


def test_huge_logits_do_not_overflow():
    hidden, weight, targets = example()
    scaled = (1e4 * hidden).detach().requires_grad_()
    for ours, theirs in zip(
        value_and_gradients(next_token_loss, (scaled, weight, targets)),
        value_and_gradients(plain, (scaled, weight, targets)),
        strict=True,
    ):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_token_nats_are_minus_log_probabilities():
    hidden, weight, targets = example("some")
    nats = token_nats(hidden @ weight.T, targets)
    log_p = (hidden @ weight.T).log_softmax(-1)
    for b in range(B):
        for t in range(T):
            expected = 0.0 if targets[b, t] == IGNORE else -log_p[b, t, targets[b, t]].item()
            assert nats[b, t].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("shape", [(B, T - 1), (B * T,), (T, B)])
def test_targets_of_another_shape_are_refused(shape: tuple[int, ...]):
    hidden, weight, targets = example()
    with pytest.raises(ValueError, match="targets of shape"):
        next_token_loss(hidden, weight, targets.reshape(-1)[: torch.Size(shape).numel()].view(shape))


@pytest.mark.parametrize("outside", [-1, V, V + 5])
def test_targets_outside_the_vocabulary_are_refused(outside: int):
    hidden, weight, targets = example()
    targets[1, 2] = outside
    with pytest.raises(ValueError, match=f"target {outside}: expected 0 … {V - 1}"):
        next_token_loss(hidden, weight, targets)


def test_without_gradients_none_is_computed():
    hidden, weight, targets = example()
    exact = plain(hidden, weight, targets)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            value = next_token_loss(hidden, weight, targets)
        assert not value.requires_grad
        torch.testing.assert_close(value, exact.detach())

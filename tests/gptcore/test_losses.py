"""The chunked cross-entropy against PyTorch's, value and both gradients, in whatever chunks it works."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gptcore import losses
from gptcore.losses import IGNORE, next_token_loss, token_nats

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


@pytest.mark.parametrize("rows", [1, 2, 4, 20, 21, 22, 10_000])
@pytest.mark.parametrize("ignored", ["none", "some"])
def test_it_is_cross_entropy(monkeypatch, rows: int, ignored: str):
    monkeypatch.setattr(losses, "CHUNK_LOGITS", rows * V + 3)
    found = value_and_gradients(next_token_loss, example(ignored))
    for ours, theirs in zip(found, value_and_gradients(plain, example(ignored)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_example_has_gradients_to_speak_of():
    """Else the comparisons above would pass with zeros."""
    value, *gradients = value_and_gradients(next_token_loss, example("some"))
    assert value > 1
    assert all(gradient.abs().max() > 0.05 for gradient in gradients)


def test_less_room_than_one_row_of_logits_still_works(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 1)
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


@pytest.mark.parametrize("ignored", ["none", "some"])
def test_in_bfloat16_it_is_as_near_as_pytorch_is(ignored: str):
    """bf16 has 8 bits: both stay within about 1 % of fp32, gradients relative to the largest of them."""
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

"""Attention against its formula written out, and the cache against no cache."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gptcore.config import GPTConfig
from gptcore.kernels import causal_attention
from gptcore.model.attention import CausalSelfAttention, KVCache, causal_mask

CONFIG = GPTConfig(vocab_size=10, context_length=12, d_model=24, n_layer=2, n_head=3)


SHARED = replace(CONFIG, n_head=4, n_kv_head=2, head_width=10)


@pytest.fixture(params=[CONFIG, SHARED], ids=["own keys", "shared keys"])
def config(request: pytest.FixtureRequest) -> GPTConfig:
    return request.param


@pytest.fixture
def attention(config: GPTConfig) -> CausalSelfAttention:
    torch.manual_seed(0)
    return CausalSelfAttention(config).eval()


def by_the_formula(attention: CausalSelfAttention, x: Tensor) -> Tensor:
    """softmax(q·kᵀ/√D, keys after the query left out)·v, a head and a row at a time, in fp64."""
    T, D = len(x), attention.head_dim
    H, K, _ = attention.heads
    weight, bias = attention.qkv.weight.double(), attention.qkv.bias.double()
    q, k, v = (x.double() @ weight.T + bias).split((H * D, K * D, K * D), dim=1)
    y = torch.zeros(T, H * D, dtype=torch.float64)
    for h in range(H):
        head, keys = (slice(n * D, (n + 1) * D) for n in (h, h * K // H))
        for t in range(T):
            scores = k[: t + 1, keys] @ q[t, head] / math.sqrt(D)
            y[t, head] = scores.softmax(dim=0) @ v[: t + 1, keys]
    return y @ attention.proj.weight.double().T + attention.proj.bias.double()


def test_attention_is_the_formula(attention: CausalSelfAttention):
    x = 3 * torch.randn(2, 9, 24)
    for row, expected in zip(attention(x), x, strict=True):
        torch.testing.assert_close(row.double(), by_the_formula(attention, expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keep", [0, 10**9])
@pytest.mark.parametrize("block", [128, 4])
def test_in_bfloat16_it_is_the_formula_too_in_training_and_not(
    attention: CausalSelfAttention, monkeypatch, block: int, keep: int
):
    """In one block and in several, with the weights kept for the backward pass and computed again."""
    monkeypatch.setattr(causal_attention, "BLOCK", block)
    monkeypatch.setattr(causal_attention, "KEPT", keep)
    x = torch.randn(2, 9, 24)
    exact = torch.stack([by_the_formula(attention, row) for row in x])  # fp64
    (gradient,) = torch.autograd.grad(exact.square().sum(), attention.qkv.weight)
    for inference in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode(inference):
            y = attention(x)
        assert (y - exact).abs().max() < 0.02 * exact.abs().max()
        if not inference:
            (found,) = torch.autograd.grad(y.square().sum(), attention.qkv.weight)
            assert (found - gradient).abs().max() < 0.03 * gradient.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cache_works_where_gradients_are_on(config: GPTConfig, attention: CausalSelfAttention, dtype: torch.dtype):
    cache = KVCache(config, batch_size=1, dtype=dtype)
    x = torch.randn(1, 6, 24)
    found = []
    for piece in x.split([3, 1, 2], dim=1):
        found.append(attention(piece, cache=cache).detach())
        cache.length += piece.shape[1]
    assert (torch.cat(found, dim=1) - attention(x)).abs().max() < (1e-5 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("pieces", [[1] * 9, [9], [4, 1, 1, 3]])
def test_a_cache_in_float32_serves_attention_in_bfloat16(
    config: GPTConfig, attention: CausalSelfAttention, pieces: list[int]
):
    """As `generate.py` has it on a CPU: it loses nothing of what bfloat16 computes, and rounds no further."""
    x = torch.randn(2, 9, 24)
    cache = KVCache(config, batch_size=2)
    found = []
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        for piece in x.split(pieces, dim=1):
            found.append(attention(piece, cache=cache))
            cache.length += piece.shape[1]
        keys = attention.qkv(x).view(2, 9, -1, config.head_dim)[:, :, config.n_head : -config.kv_heads]
        k = keys.transpose(1, 2)
    assert (cache.keys.dtype, k.dtype) == (torch.float32, torch.bfloat16)
    kept = cache.keys[0, :, :, :9]
    assert torch.equal(kept, kept.bfloat16().float())
    torch.testing.assert_close(kept, k.float(), rtol=2**-6, atol=1e-3)  # fewer rows at once may round otherwise
    exact = attention(x)
    assert (torch.cat(found, dim=1) - exact).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_gradient_flows_from_a_token_to_a_later_one(attention: CausalSelfAttention, dtype: torch.dtype):
    x = torch.randn(1, 8, 24, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = attention(x)
    for t in range(8):
        (grad,) = torch.autograd.grad(y[0, t].sum(), x, retain_graph=True)
        reached = grad[0].abs().sum(dim=1) > 0
        assert reached.tolist() == [s <= t for s in range(8)]


@pytest.mark.parametrize("pieces", [[1] * 9, [9], [4, 5], [1, 7, 1], [3, 3, 3]])
def test_the_cache_changes_nothing_in_whatever_pieces_the_text_comes(
    config: GPTConfig, attention: CausalSelfAttention, pieces: list[int]
):
    x = torch.randn(2, 9, 24)
    cache = KVCache(config, batch_size=2)
    found = []
    for piece in x.split(pieces, dim=1):
        found.append(attention(piece, cache=cache, layer=1))
        cache.length += piece.shape[1]
    torch.testing.assert_close(torch.cat(found, dim=1), attention(x))


def test_a_mask_replaces_the_causal_rule(attention: CausalSelfAttention):
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(attention(x, mask=causal_mask(5, 5, x.device)), attention(x))
    only_itself = torch.eye(5, dtype=torch.bool)[None, None]
    alone = torch.cat([attention(x[:, t : t + 1]) for t in range(5)], dim=1)
    torch.testing.assert_close(attention(x, mask=only_itself), alone)


def test_the_mask_of_the_newest_tokens():
    assert causal_mask(2, 4, torch.device("cpu"))[0, 0].tolist() == [[True, True, True, False], [True] * 4]


def test_a_full_cache_refuses_more(config: GPTConfig, attention: CausalSelfAttention):
    cache = KVCache(config, batch_size=1, max_length=3)
    attention(torch.randn(1, 3, 24), cache=cache)
    cache.length = 3
    with pytest.raises(ValueError, match="holds 3 tokens; 4"):
        attention(torch.randn(1, 1, 24), cache=cache)


def test_dropout_only_in_training(config: GPTConfig, attention: CausalSelfAttention):
    dropping = CausalSelfAttention(replace(config, dropout=0.5))
    dropping.load_state_dict(attention.state_dict())
    x = torch.randn(1, 6, 24)
    assert torch.equal(dropping.eval()(x), attention(x))
    assert not torch.equal(dropping.train()(x), dropping(x))

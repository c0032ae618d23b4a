"""Rotary positions: `transformers`' Llama is the oracle, and what makes them rotary holds for every position."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gptcore.config import GPTConfig
from gptcore.model.positions import _table, rotate, rotation
from gptcore.rope_scaling import RopeScaling

LENGTH = 600


def turns(
    positions: Tensor, width: int, theta: float, length: int, scaling: RopeScaling | None = None, share: float = 1.0
) -> Tensor:
    config = GPTConfig(
        d_model=width,
        n_head=1,
        context_length=length,
        positions="rotary",
        rope_theta=theta,
        rope_scaling=scaling,
        rotary_share=share,
    )
    return rotation(config, positions, int(positions.max()) + 1)


def by_the_oracle(x: Tensor, positions: Tensor, theta: float, **rope: object) -> Tensor:
    """x (B, H, T, D) turned by `transformers`, positions (B, T)."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    rope = {"rope_type": "default", "rope_theta": theta, **rope}
    config = LlamaConfig(head_dim=x.shape[-1], rope_parameters=rope, max_position_embeddings=LENGTH)
    table = LlamaRotaryEmbedding(config)
    return apply_rotary_pos_emb(x, x, *table(x, positions))[0]


@pytest.mark.parametrize("theta", [10000.0, 500000.0, 17.0])
@pytest.mark.parametrize("head_dim", [2, 8, 64])
def test_it_turns_as_transformers_does(head_dim: int, theta: float):
    x = torch.randn(3, 2, 9, head_dim)
    rows = torch.randint(LENGTH, (3, 9))
    found = rotate(x, turns(rows, head_dim, theta, LENGTH))
    torch.testing.assert_close(found, by_the_oracle(x, rows, theta))
    shared = torch.arange(LENGTH - 9, LENGTH)
    found = rotate(x, turns(shared, head_dim, theta, LENGTH))
    torch.testing.assert_close(found, by_the_oracle(x, shared[None], theta))
    assert (found - x).abs().max() > 0.1


LLAMA3 = {"original_max_position_embeddings": 40, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
STRETCHED: dict[str, tuple[RopeScaling, dict[str, object]]] = {
    "linear": (RopeScaling(kind="linear", factor=4.0), {"rope_type": "linear", "factor": 4.0}),
    "dynamic": (RopeScaling(kind="dynamic", factor=2.0), {"rope_type": "dynamic", "factor": 2.0}),
    "llama3": (
        RopeScaling(kind="llama3", factor=8.0, original=40),
        {"rope_type": "llama3", "factor": 8.0, **LLAMA3},
    ),
    "llama3, other bounds": (
        RopeScaling(kind="llama3", factor=32.0, original=200, low_freq_factor=2.0, high_freq_factor=9.0),
        {"rope_type": "llama3", "factor": 32.0, **LLAMA3, "original_max_position_embeddings": 200}
        | {"low_freq_factor": 2.0, "high_freq_factor": 9.0},
    ),
    "yarn": (
        RopeScaling(kind="yarn", factor=4.0, original=150, attention_factor=1.25),
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 150, "attention_factor": 1.25},
    ),
    "yarn, between channels": (
        RopeScaling(kind="yarn", factor=3.0, original=200, beta_fast=20.0, beta_slow=0.5, truncate=False),
        {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 200, "attention_factor": 1.0}
        | {"beta_fast": 20.0, "beta_slow": 0.5, "truncate": False},
    ),
}


@pytest.mark.parametrize("name", STRETCHED)
@pytest.mark.parametrize("width", [6, 64])
def test_it_stretches_as_transformers_does(name: str, width: int):
    scaling, theirs = STRETCHED[name]
    x, positions = torch.randn(1, 2, LENGTH, width), torch.arange(LENGTH)
    found = rotate(x, turns(positions, width, 10000.0, LENGTH, scaling))
    torch.testing.assert_close(found, by_the_oracle(x, positions[None], 10000.0, **theirs), rtol=1e-4, atol=1e-4)
    plain = rotate(x, turns(positions, width, 10000.0, LENGTH))
    assert name == "dynamic" or (found - plain).abs().max() > 0.1


def test_a_share_of_a_head_is_turned_and_the_rest_left_alone():
    x, positions = torch.randn(1, 2, 20, 24), torch.arange(20)
    found = rotate(x, turns(positions, 24, 100.0, 20, share=0.25))
    assert torch.equal(found[..., 6:], x[..., 6:])
    torch.testing.assert_close(found[..., :6], rotate(x[..., :6], turns(positions, 6, 100.0, 20)))


def test_a_longer_table_has_the_same_beginning():
    short, long = (turns(torch.arange(n), 8, 100.0, LENGTH) for n in (5, 400))
    assert torch.equal(short, long[:, ..., :5, :])


positions = st.integers(0, LENGTH // 2 - 1)


@settings(max_examples=50, deadline=None)
@given(positions, positions, st.integers(0, LENGTH // 2), st.sampled_from([2, 6, 32]), st.integers(0, 10**6))
def test_a_score_depends_on_the_distance_alone(i: int, j: int, shift: int, head_dim: int, seed: int):
    q, k = torch.randn(2, 1, 1, 1, head_dim, generator=torch.Generator().manual_seed(seed))

    def score(at_q: int, at_k: int) -> Tensor:
        turned = [rotate(x, turns(torch.tensor([p]), head_dim, 100.0, LENGTH)) for x, p in ((q, at_q), (k, at_k))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(i, j), score(i + shift, j + shift), rtol=1e-3, atol=1e-3)


def test_the_first_position_turns_nothing_and_no_turn_changes_a_length():
    x = torch.randn(1, 2, 50, 16)
    turned = rotate(x, turns(torch.arange(50), 16, 10000.0, 50))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_bfloat16_is_turned_in_float32():
    """Rounded once, at the end: a position of 599 in bfloat16 would be 600."""
    x = torch.randn(1, 1, LENGTH, 16).bfloat16()
    by = turns(torch.arange(LENGTH), 16, 10000.0, LENGTH)
    found = rotate(x, by)
    assert (found.dtype, by.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(found, rotate(x.float(), by).bfloat16())


def test_a_table_made_while_generating_serves_training():
    _table.cache_clear()
    with torch.inference_mode():
        turns(torch.arange(4), 8, 10000.0, 16)
    x = torch.randn(1, 1, 4, 8, requires_grad=True)
    rotate(x, turns(torch.arange(4), 8, 10000.0, 16)).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())  # a turn keeps the sum of squares

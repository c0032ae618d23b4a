"""Rotary positions: `transformers`' Llama is the oracle, and what makes them rotary holds for every position."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gptcore.model.positions import _table, rotate, rotation

LENGTH = 600


def by_the_oracle(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """x (B, H, T, D) turned by `transformers`, positions (B, T)."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    rope = {"rope_type": "default", "rope_theta": theta}
    table = LlamaRotaryEmbedding(LlamaConfig(head_dim=x.shape[-1], rope_parameters=rope))
    return apply_rotary_pos_emb(x, x, *table(x, positions))[0]


@pytest.mark.parametrize("theta", [10000.0, 500000.0, 17.0])
@pytest.mark.parametrize("head_dim", [2, 8, 64])
def test_it_turns_as_transformers_does(head_dim: int, theta: float):
    x = torch.randn(3, 2, 9, head_dim)
    rows = torch.randint(LENGTH, (3, 9))
    found = rotate(x, rotation(rows, head_dim, theta, LENGTH))
    torch.testing.assert_close(found, by_the_oracle(x, rows, theta))
    shared = torch.arange(LENGTH - 9, LENGTH)
    found = rotate(x, rotation(shared, head_dim, theta, LENGTH))
    torch.testing.assert_close(found, by_the_oracle(x, shared[None], theta))
    assert (found - x).abs().max() > 0.1


positions = st.integers(0, LENGTH // 2 - 1)


@settings(max_examples=50, deadline=None)
@given(positions, positions, st.integers(0, LENGTH // 2), st.sampled_from([2, 6, 32]), st.integers(0, 10**6))
def test_a_score_depends_on_the_distance_alone(i: int, j: int, shift: int, head_dim: int, seed: int):
    q, k = torch.randn(2, 1, 1, 1, head_dim, generator=torch.Generator().manual_seed(seed))

    def score(at_q: int, at_k: int) -> Tensor:
        turned = [rotate(x, rotation(torch.tensor([p]), head_dim, 100.0, LENGTH)) for x, p in ((q, at_q), (k, at_k))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(i, j), score(i + shift, j + shift), rtol=1e-3, atol=1e-3)


def test_the_first_position_turns_nothing_and_no_turn_changes_a_length():
    x = torch.randn(1, 2, 50, 16)
    turned = rotate(x, rotation(torch.arange(50), 16, 10000.0, 50))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_bfloat16_is_turned_in_float32():
    """Rounded once, at the end: a position of 599 in bfloat16 would be 600."""
    x = torch.randn(1, 1, LENGTH, 16).bfloat16()
    by = rotation(torch.arange(LENGTH), 16, 10000.0, LENGTH)
    found = rotate(x, by)
    assert (found.dtype, by.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(found, rotate(x.float(), by).bfloat16())


def test_a_table_made_while_generating_serves_training():
    _table.cache_clear()
    with torch.inference_mode():
        rotation(torch.arange(4), 8, 10000.0, 16)
    x = torch.randn(1, 1, 4, 8, requires_grad=True)
    rotate(x, rotation(torch.arange(4), 8, 10000.0, 16)).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())  # a turn keeps the sum of squares

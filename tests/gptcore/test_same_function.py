"""The same function as `transformers`: logits, loss, gradients, cache, greedy text and padding of every family.

Logits agree to about 1e-6 of their size; the bands are what rounding in another order may cost.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from gptcore.formats.directory import load_model
from gptcore.inference.generate import generate
from gptcore.model import GPT
from gptcore.model.attention import KVCache
from gptcore.objectives.next_token import language_loss
from tests.gptcore.oracles import assert_near, make_family, random_ids

GPT2: dict[str, dict[str, Any]] = {
    "tiny": {},
    "one layer, one head": {"n_layer": 1, "n_head": 1, "vocab_size": 7},
    "deep and narrow": {"n_layer": 5, "n_embd": 8, "n_head": 2},
    "wide, long": {"n_embd": 96, "n_head": 6, "n_positions": 80, "vocab_size": 300},
    "own head": {"tie_word_embeddings": False},
    "other epsilon": {"layer_norm_epsilon": 1e-2},
    "GELU by the error function": {"activation_function": "gelu"},
    "tanh under another name": {"activation_function": "gelu_fast"},
}
FULL_WIDTH = {"n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
LLAMA: dict[str, dict[str, Any]] = {
    "own head": {},
    "tied head": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "one layer, one head": {"num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 7},
    "wide, long, other waves": {
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_attention_heads": 6,
        "max_position_embeddings": 80,
        "vocab_size": 300,
        "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
    },
    "other epsilon": {"rms_norm_eps": 1e-2},
}
LLAMA |= {
    "shared keys": {"num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 50},
    "one head of keys, wide heads": {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 10},
    "biases of attention": {"attention_bias": True, "num_attention_heads": 4, "num_key_value_heads": 2},
    "biases of the MLP": {"mlp_bias": True},
    "stretched as Llama 3.1": {
        "max_position_embeddings": 64,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 300.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
    "stretched evenly": {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}},
    "stretched beyond the context": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}},
}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 20}
QWEN2: dict[str, dict[str, Any]] = {
    "plain": {},
    "shared keys, tied": {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "stretched by yarn": {"max_position_embeddings": 80, "rope_parameters": YARN},
    "yarn with scales": {
        "max_position_embeddings": 80,
        "rope_parameters": YARN | {"mscale": 1.5, "mscale_all_dim": 0.7, "truncate": False, "beta_fast": 10.0},
    },
}
QWEN3: dict[str, dict[str, Any]] = {
    "plain": {},
    "wide heads, shared keys": {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 14},
    "biases, tied": {"attention_bias": True, "tie_word_embeddings": True},
}
NEOX: dict[str, dict[str, Any]] = {
    "a quarter of each head, side by side": {"hidden_size": 48, "num_attention_heads": 3},
    "serial, whole heads, tanh": {
        "use_parallel_residual": False,
        "hidden_act": "gelu_pytorch_tanh",
        "rope_parameters": {"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": 1.0},
    },
    "no biases of attention, tied": {
        "attention_bias": False,
        "tie_word_embeddings": True,
        "intermediate_size": 96,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0, "partial_rotary_factor": 0.5},
    },
}
BY_FAMILY = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "gpt_neox": NEOX}
CASES = [("gpt2", name) for name in GPT2] + [(kind, name) for kind, cases in BY_FAMILY.items() for name in cases]


@pytest.fixture(scope="module", params=[*CASES, pytest.param(("gpt2", "full width"), marks=pytest.mark.slow)], ids=str)
def pair(request: pytest.FixtureRequest, make_oracle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, GPT]:
    """An oracle with random weights, and what ``load_model`` makes of its directory."""
    kind, name = request.param
    if kind == "gpt2":
        oracle = make_oracle(**{**GPT2, "full width": FULL_WIDTH}[name])
    else:
        oracle = make_family(kind, **BY_FAMILY[kind][name])
    directory = tmp_path_factory.mktemp("oracle")
    oracle.save_pretrained(directory)
    return oracle, load_model(directory)


def test_logits_are_those_of_transformers(pair):
    oracle, model = pair
    ids = random_ids(model)
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids).logits)


def test_loss_is_that_of_transformers(pair):
    oracle, model = pair
    ids = random_ids(model)
    ours = language_loss(model, (ids[:, :-1], ids[:, 1:]))
    assert ours.item() == pytest.approx(oracle(ids, labels=ids).loss.item(), rel=1e-5)


def test_gradients_are_those_of_transformers(pair, tmp_path: Path):
    """The oracle's gradients are saved as if they were weights, so that loading maps their names."""
    oracle, model = copy.deepcopy(pair)
    ids = random_ids(model)
    oracle(ids, labels=ids).loss.backward()
    language_loss(model, (ids[:, :-1], ids[:, 1:])).backward()
    for parameter in oracle.parameters():
        parameter.data = parameter.grad
    oracle.save_pretrained(tmp_path / "gradients")
    theirs = dict(load_model(tmp_path / "gradients").named_parameters())
    largest = max(gradient.abs().max().item() for gradient in theirs.values())
    assert largest > 1e-2
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].data, rtol=1e-4, atol=1e-4 * largest, msg=name)


def test_the_cache_gives_the_logits_of_the_whole_text(pair):
    oracle, model = pair
    ids = random_ids(model, tokens=min(16, model.config.context_length))
    cache = KVCache(model.config, batch_size=2)
    with torch.inference_mode():
        stepwise = torch.cat([model(token, cache=cache) for token in ids.split(1, dim=1)], dim=1)
        assert_near(stepwise, oracle(ids).logits)


@pytest.mark.parametrize("prompts", [[3], [4, 4, 4], [6, 1, 3]], ids=["single", "batch", "left-padded"])
def test_greedy_text_is_that_of_transformers(pair, prompts: list[int]):
    oracle, model = pair
    width, new = max(prompts), 10
    ids = random_ids(model, len(prompts), width)
    padding = torch.tensor([[column >= width - length for column in range(width)] for length in prompts])
    theirs = oracle.generate(
        ids, attention_mask=padding.long(), do_sample=False, min_new_tokens=new, max_new_tokens=new, eos_token_id=None
    )
    ours = generate(model, ids, new, padding=None if padding.all() else padding)
    assert ours.tolist() == theirs.tolist()
    assert len(set(ours[:, width:].flatten().tolist())) > 1, "texts of one token would agree by themselves"


def test_padded_logits_are_those_of_transformers(pair):
    oracle, model = pair
    ids = random_ids(model, 3, 8)
    padding = torch.tensor([[column >= gap for column in range(8)] for gap in (0, 3, 7)])
    positions = (padding.long().cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        theirs = oracle(ids, attention_mask=padding.long(), position_ids=positions).logits
        assert_near(model(ids, padding=padding)[padding], theirs[padding])

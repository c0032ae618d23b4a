"""The configuration refuses nonsense when it is made, and the presets are the published sizes."""

import dataclasses
import re

import pytest

from gptcore.config import GPTConfig
from gptcore.ranges import rules
from gptcore.untrusted import shown


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(ValueError) as error:
        GPTConfig(vocab_size=0, n_layer=-1, dropout=1.0, layer_norm_eps=0.0)
    for part in ("vocab_size = 0", "n_layer = -1", "dropout = 1.0", "layer_norm_eps = 0.0"):
        assert part in str(error.value)


@pytest.mark.parametrize("value", [0, -3, 2.5, 12.0, "2", None, True, [2], {}, 2**25, 10**4000, float("nan")])
@pytest.mark.parametrize("name", ["vocab_size", "context_length", "d_model", "n_layer", "n_head"])
def test_a_size_is_a_whole_number_of_at_least_one(name: str, value: object):
    with pytest.raises(ValueError, match=f"^{name} = {re.escape(shown(value))}: expected {rules(GPTConfig)[name]}$"):
        GPTConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, "0.1", True, [], float("nan"), 1e16, 10**400, -1])
@pytest.mark.parametrize("name", ["dropout", "layer_norm_eps", "rope_theta"])
def test_a_number_is_a_number_in_its_range(name: str, value: object):
    with pytest.raises(ValueError, match=f"^{name} = {re.escape(shown(value))}: expected "):
        GPTConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 0, 1, "true", []])
@pytest.mark.parametrize("name", ["bias", "tie_weights"])
def test_a_switch_is_true_or_false(name: str, value: object):
    with pytest.raises(ValueError, match=f"^{name} = {re.escape(shown(value))}: expected true or false$"):
        GPTConfig(**{name: value})  # type: ignore[arg-type]


def test_width_is_a_multiple_of_heads():
    with pytest.raises(ValueError, match="d_model = 100: expected a multiple of n_head = 12"):
        GPTConfig(d_model=100)
    assert GPTConfig(d_model=96).head_dim == 8


def test_rotary_positions_need_pairs_of_channels():
    assert GPTConfig(d_model=36, n_head=4).head_dim == 9
    with pytest.raises(ValueError, match="d_model / n_head = 9: rotary positions turn pairs of channels"):
        GPTConfig(d_model=36, n_head=4, positions="rotary")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("positions", "alibi", "learned or rotary"),
        ("norm", "batchnorm", "layernorm or rmsnorm"),
        ("norm", None, "layernorm or rmsnorm"),
        ("mlp", "relu", "one of gelu, gelu-exact, swiglu"),
    ],
)
def test_an_option_is_one_of_its_words(name: str, value: object, expected: str):
    with pytest.raises(ValueError, match=f"^{name} = {value!r}: expected {expected}$"):
        GPTConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("theta", [0.0, 0.5, float("inf"), float("nan")])
def test_the_base_of_the_wavelengths_is_finite_and_at_least_one(theta: float):
    with pytest.raises(ValueError, match=r"rope_theta = .*: expected a number in 1 …"):
        GPTConfig(rope_theta=theta)


def test_a_config_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GPTConfig().n_layer = 3  # type: ignore[misc]


def test_a_preset_takes_changes_and_checks_them():
    assert GPTConfig.preset("gpt2", context_length=256, dropout=0.1) == GPTConfig(context_length=256, dropout=0.1)
    with pytest.raises(ValueError, match="n_head"):
        GPTConfig.preset("gpt2-xl", n_head=24)


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'gpt3'.*gpt2, gpt2-medium, gpt2-large, gpt2-xl"):
        GPTConfig.preset("gpt3")

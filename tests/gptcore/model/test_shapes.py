"""The stated shapes are those of the modules, for every combination of options."""

from itertools import product

import pytest

from gptcore.config import CHOICES, GPTConfig
from gptcore.machine.estimate import parameters
from gptcore.model import GPT
from gptcore.model.shapes import parameter_shapes


@pytest.mark.parametrize("chosen", list(product(*CHOICES.values())), ids="-".join)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tie_weights", [True, False])
def test_every_parameter_has_the_stated_shape_in_the_stated_order(
    chosen: tuple[str, ...], bias: bool, tie_weights: bool
):
    options = dict(zip(CHOICES, chosen, strict=True)) | {"bias": bias, "tie_weights": tie_weights}
    config = GPTConfig(vocab_size=61, context_length=16, d_model=24, n_layer=3, n_head=2, **options)  # type: ignore[arg-type]
    model = GPT(config)
    made = [(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()]
    assert list(parameter_shapes(config).items()) == made
    assert parameters(config) == model.n_params()


@pytest.mark.parametrize(
    "options",
    [
        {"n_kv_head": 1},
        {"head_width": 10, "n_head": 3},
        {"mlp_hidden": 7},
        {"mlp": "swiglu", "mlp_hidden": 7, "qk_norm": True},
        {"positions": "rotary", "rotary_share": 0.5, "n_kv_head": 3, "n_head": 6, "head_width": 12, "qk_norm": True},
    ],
    ids=str,
)
def test_other_widths_have_the_stated_shapes_too(options: dict[str, object]):
    fields = {"vocab_size": 61, "context_length": 16, "d_model": 24, "n_layer": 2, "n_head": 2} | options
    config = GPTConfig(**fields)  # type: ignore[arg-type]
    model = GPT(config)
    assert parameter_shapes(config) == {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert parameters(config) == model.n_params()

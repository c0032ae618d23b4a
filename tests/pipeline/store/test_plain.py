"""Configurations as manifests hold them."""

from dataclasses import dataclass, replace

from gptcore.config import Architecture, GPTConfig
from gptcore.ranges import later
from gptcore.rope_scaling import RopeScaling
from pipeline.store.plain import as_plain


@dataclass(frozen=True)
class Config:
    width: int = 3
    added: int = later(0)


@dataclass(frozen=True)
class Nested:
    parts: tuple[Config, ...]


def test_an_option_that_came_later_is_named_only_where_it_is_used() -> None:
    assert as_plain(Config()) == {"width": 3}
    assert as_plain({"a": Config(added=1)}) == {"a": {"width": 3, "added": 1}}
    assert as_plain([Nested((Config(), Config(added=1)))]) == [{"parts": [{"width": 3}, {"width": 3, "added": 1}]}]


def test_a_gpt2_is_recorded_as_it_always_was() -> None:
    """Else every checkpoint of the default run had other bytes."""
    config = Architecture(d_model=8, n_layer=1, n_head=2, dropout=0.0)
    assert list(as_plain(config)) == [
        *("d_model", "n_layer", "n_head", "dropout", "bias", "tie_weights", "layer_norm_eps"),
        *("positions", "rope_theta", "norm", "mlp"),
    ]
    stretched = replace(GPTConfig(), rope_scaling=RopeScaling(kind="linear", factor=2.0))
    assert as_plain(stretched)["rope_scaling"]["factor"] == 2.0

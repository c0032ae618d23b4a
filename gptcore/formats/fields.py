"""What families check in a ``config.json`` that is not ours, each with a clause for everything that is wrong.

A check returns problems and raises nothing, so that a message can name them all at once (`refuse`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gptcore.config import GPTConfig
from gptcore.ranges import Whole, rules
from gptcore.untrusted import shown

SIZES = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "context_length",
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
}
"""Theirs → ours, in the words of every family after GPT-2."""
MLP_WIDTH = "intermediate_size"
ACTIVATIONS = {"gelu": "gelu-exact", "gelu_new": "gelu", "gelu_fast": "gelu", "gelu_pytorch_tanh": "gelu"}
"""Of an MLP without gates, as `transformers` names them → ours: the last three compute the same."""
MOST_PROBLEMS = 20
"""That a message lists; a config of another size than the weights has thousands."""


def missing(stored: Mapping[str, Any], names: Iterable[str], optional: str = "") -> list[str]:
    """A problem for each of ``names`` that ``stored`` goes without."""
    return [f"{key}: missing" for key in names if key not in stored and key != optional]


def refuse(problems: Sequence[str], untold: int = 0) -> None:
    """Raise ``ValueError`` with the first of ``problems``, if there are any; so many more are ``untold``."""
    if problems:
        raise ValueError("; ".join(first(problems, untold)))


def wrong_sizes(stored: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """A problem for each size that is stored under one of ``names`` (theirs → ours) and can't be one."""
    known = rules(GPTConfig)
    sizes = [
        (theirs, Whole(1, rule.high))  # where 0 stands for a default, it does so in our own layout only
        for theirs, ours in names.items()
        if isinstance(rule := known[ours], Whole) and theirs in stored
    ]
    return [problem for theirs, rule in sizes if (problem := rule.problem(theirs, stored[theirs]))]


def of_another_model(stored: Mapping[str, Any]) -> list[str]:
    """A problem for each key that any family of `transformers` may have and that changes what its model computes."""
    problems = other_values(stored, {"is_causal": True})
    if (quantized := stored.get("quantization_config")) is not None:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        problems.append(f"quantization_config ({shown(method)}): expected weights in float32, float16 or bfloat16")
    return problems


def unknown_activation(key: str, value: Any) -> list[str]:
    """A problem unless it is one of ``ACTIVATIONS``."""
    if isinstance(value, str) and value in ACTIVATIONS:
        return []
    return [f"{key} = {shown(value)}: expected one of {', '.join(ACTIVATIONS)}"]


def unless(default: int, value: int | None) -> int:
    """0, which stands for the default in a `GPTConfig`, where ``value`` is the default or not stated."""
    return 0 if value in (None, default) else value  # type: ignore[return-value]


def other_values(stored: Mapping[str, Any], computed: Mapping[str, Any]) -> list[str]:
    """Keys with another value than the one this model computes, for which an absent key stands too."""
    return [
        f"{key} = {shown(stored[key])}: this model computes {value!r} only"
        for key, value in computed.items()
        if key in stored and not (type(stored[key]) is type(value) and stored[key] == value)
    ]


def first(problems: Sequence[str], untold: int = 0) -> list[str]:
    """As many as a message lists, and how many more there are, ``untold`` ones among them."""
    untold += max(0, len(problems) - MOST_PROBLEMS)
    return [*problems[:MOST_PROBLEMS], *([f"… and {untold:,} more"] if untold else [])]

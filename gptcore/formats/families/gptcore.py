"""Our own model directories: every configuration, under our own names, for this library alone."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from gptcore.config import GPTConfig
from gptcore.formats.fields import MOST_PROBLEMS, missing, refuse
from gptcore.formats.table import TableFormat
from gptcore.rope_scaling import RopeScaling
from gptcore.untrusted import shown

_ENVELOPE = {"model_type", "architectures", "dtype", "id2label", "label2id"} | {
    f"{kind}_token_id" for kind in ("bos", "eos", "pad")
}

_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def _read(stored: Mapping[str, Any]) -> GPTConfig:
    """Unknown keys are refused: they are options of a later version, and would change what is computed."""
    known = {field.name: type(field.default) for field in fields(GPTConfig)}
    sizes = ("vocab_size", "context_length", "d_model", "n_layer", "n_head")
    problems = missing(stored, dict.fromkeys(sizes))
    values = {name: stored[name] for name in known if name in stored and name != "rope_scaling"}
    problems += [
        f"{name} = {shown(value)}: expected {_IN_WORDS[known[name]]}"
        for name, value in values.items()
        if type(value) not in ((float, int) if known[name] is float else (known[name],))
    ]
    if not isinstance(scaling := stored.get("rope_scaling"), dict | None):
        problems.append(f"rope_scaling = {shown(scaling)}: expected an object or null")
    unknown = sorted(set(stored) - set(known) - _ENVELOPE)  # of a hostile file hundreds of thousands
    told = [f"{shown(key)[1:-1]}: unknown to this version of gptcore" for key in unknown[:MOST_PROBLEMS]]
    refuse(problems + told, untold=len(unknown) - len(told))
    return GPTConfig(**values, rope_scaling=RopeScaling(**scaling) if scaling else None)


FORMAT = TableFormat(
    "gptcore",
    "GPT",
    "a GPT with the parts below, pre-norm",
    ("GPT", "Classifier"),
    (),
    "head.weight",
    lambda config: True,
    _read,
    asdict,
    foreign=False,
)

"""A family of model directories: GPT-2 under the names of an imaginary library, which counts its layers ``layer_0``."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gptcore.config import GPTConfig
from gptcore.formats.families.gpt2 import FORMAT as GPT2
from gptcore.formats.table import Row, TableFormat


def _read(stored: Mapping[str, Any]) -> GPTConfig:
    return GPTConfig(**stored["shape"])


def _write(config: GPTConfig) -> dict[str, Any]:
    return {"shape": asdict(config)}


TABLE = tuple(Row(row.theirs.replace("transformer.h.{}", "layer_{}"), row.ours, row.part) for row in GPT2.table)
FORMAT = TableFormat(
    "upside-down",
    "Upside-down GPT",
    "a GPT-2 whose layers have other names",
    ("UpsideDown", "UpsideDownClassifier"),
    TABLE,
    GPT2.head,
    GPT2.expresses,
    _read,
    _write,
    zero_biases=True,
    foreign=False,
)

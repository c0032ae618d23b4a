"""Model directories ↔ our models, whatever the family.

A directory holds ``config.json``, weights and, if it has a vocabulary, ``vocab.json`` and ``merges.txt``.  Our own
checkpoints are such directories too, so what loads a published GPT-2 is what loads our models, every day.
``model_type`` in ``config.json`` names the family (`families`), and only that one is imported; what GPT-2 can
express is saved in its layout, everything else in our own.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.formats.families import FAMILIES
from gptcore.formats.table import CONFIG_FILE, Model
from gptcore.model import GPT, Classifier
from gptcore.tokenizer import Tokenizer

OWN = "gptcore"
"""The family that expresses everything."""


class Format(Protocol):
    """A family of model directories: a member of the seam ``gptcore.formats.families``, as ``FORMAT``."""

    model_type: str
    title: str
    """What people call the architecture."""
    description: str
    """Its parts, in a phrase."""
    foreign: bool
    """Whether `transformers` and other programs read it too."""

    def expresses(self, config: GPTConfig, /) -> bool:
        """Whether it can hold a model of this configuration exactly."""

    def read_config(self, fields: Mapping[str, Any], /) -> GPTConfig:
        """``config.json`` → ours; raises ``ValueError`` for what this model can't compute."""

    def is_classifier(self, fields: Mapping[str, Any]) -> bool:
        """Whether ``config.json`` describes a classifier."""

    def read(self, directory: Path, model: Model) -> None:
        """Fill ``model`` with the directory's weights."""

    def write(self, directory: Path, model: Model, tokenizer: Tokenizer | None) -> None:
        """Write all but the vocabulary."""


def load_model(directory: Path | str) -> GPT:
    """The language model in ``directory``, whatever its family, in fp32, in evaluation mode."""
    directory = Path(directory)
    fields = read_config(directory)
    model = GPT(gpt_config(directory, fields))
    format_of(fields).read(directory, model)
    return model.eval()


def load_classifier(directory: Path | str) -> Classifier:
    """The sequence classifier (as ``GPT2ForSequenceClassification``) in ``directory``, in evaluation mode."""
    directory = Path(directory)
    fields = read_config(directory)
    labels, pad_id = fields.get("id2label") or {}, fields.get("pad_token_id")
    if not labels or not isinstance(pad_id, int) or set(labels) != {str(i) for i in range(len(labels))}:
        raise DataError(
            f'{directory / CONFIG_FILE}: expected a classifier\'s id2label (from "0" on) and pad_token_id, '
            f"found {labels} and {pad_id}"
        )
    names = [labels[str(i)] for i in range(len(labels))]
    model = Classifier(GPT(gpt_config(directory, fields)), names, pad_id)
    format_of(fields).read(directory, model)
    return model.eval()


def load_any(directory: Path | str) -> Model:
    """What ``directory`` says it holds."""
    return load_classifier(directory) if is_classifier(read_config(Path(directory))) else load_model(directory)


def save_model(
    model: Model, directory: Path | str, tokenizer: Tokenizer | None = None, layout: Format | None = None
) -> None:
    """Write ``model``, with its vocabulary if given, so that it loads to the same function.

    Without ``layout`` it is GPT-2's where that is exact, so that `transformers` loads the directory, else our
    own (`native`).  In GPT-2's a model without biases is written with biases of zero, which compute
    the same.  Raises ``ValueError`` for a layout that can't express the model.
    """
    directory = Path(directory)
    (layout or native(model.config)).write(directory, model, tokenizer)
    if tokenizer is not None:
        tokenizer.save(directory)


def read_config(directory: Path) -> dict[str, Any]:
    """``config.json`` as a dictionary; refuses what is of no family that we read."""
    path = Path(directory) / CONFIG_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: missing; expected a model directory, an export or a checkpoint") from None
    except ValueError as error:
        raise DataError(f"{path}: expected JSON: {error}") from None
    found = fields.get("model_type") if isinstance(fields, dict) else type(fields).__name__
    if not isinstance(fields, dict) or found not in FAMILIES:
        raise DataError(f"{path}: expected model_type {', '.join(map(repr, FAMILIES.names()))}, found {found!r}")
    return fields


def gpt_config(directory: Path | str, fields: Mapping[str, Any] | None = None) -> GPTConfig:
    """Our configuration of the model in ``directory``; refuses what this model does not compute."""
    fields = read_config(Path(directory)) if fields is None else fields
    try:
        return format_of(fields).read_config(fields)
    except (ValueError, TypeError) as error:
        raise DataError(f"{Path(directory) / CONFIG_FILE}: {error}") from None


def format_of(fields: Mapping[str, Any]) -> Format:
    """The family of a directory with this ``config.json``."""
    return FAMILIES[fields["model_type"]]  # type: ignore[no-any-return]


def is_classifier(fields: Mapping[str, Any]) -> bool:
    """Whether a directory with this ``config.json`` holds a classifier."""
    return format_of(fields).is_classifier(fields)


def native(config: GPTConfig) -> Format:
    """The family of our checkpoints: GPT-2's where it is exact, else our own."""
    gpt2: Format = FAMILIES["gpt2"]
    return gpt2 if gpt2.expresses(config) else FAMILIES[OWN]


def portable(config: GPTConfig) -> Format:
    """The family that other programs read, where one of them is exact; else our own."""
    known: list[Format] = [FAMILIES[name] for name in FAMILIES.names()]
    return next((each for each in known if each.foreign and each.expresses(config)), FAMILIES[OWN])

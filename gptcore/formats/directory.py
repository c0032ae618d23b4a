"""Model directories and GGUF files ↔ our models, whatever the family.

A directory holds ``config.json``, weights and, if it has a vocabulary, that (`gptcore.tokenizer`).  Our own checkpoints
are such directories too, so what loads a published GPT-2 is what loads our models, every day.
``model_type`` in ``config.json`` names the family (`families`), and only that one is imported; what GPT-2 can
express is saved in its layout, everything else in our own.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.formats.containers import CONFIG_FILE, container_of
from gptcore.formats.families import FAMILIES
from gptcore.formats.table import Model
from gptcore.memory import memory
from gptcore.model import GPT, Classifier
from gptcore.model.shapes import parameter_shapes
from gptcore.tokenizer import Tokenizer
from gptcore.untrusted import shown

LONGEST_LABEL = 1_000
"""Characters."""
_ARCHITECTURE = re.compile(r"[\w.-]{1,200}", re.ASCII)
_LABELS = {"0": "LABEL_0", "1": "LABEL_1"}
"""Where ``config.json`` names none, as `transformers` takes it."""
OWN = "gptcore"
"""The family that expresses everything."""


class Format(Protocol):
    """A family of model directories: a member of the seam ``gptcore.formats.families``, as ``FORMAT``."""

    model_type: str
    title: str
    """What people call the architecture."""
    foreign: bool
    """Whether `transformers` and other programs read it too."""

    def describe(self, config: GPTConfig, /) -> str:
        """The parts of such a model, in a phrase."""

    def expresses(self, config: GPTConfig, /) -> bool:
        """Whether it can hold a model of this configuration exactly."""

    def read_config(self, fields: Mapping[str, Any], /) -> GPTConfig:
        """``config.json`` → ours; raises ``ValueError`` for what this model can't compute."""

    def is_classifier(self, fields: Mapping[str, Any]) -> bool:
        """Whether ``config.json`` describes a classifier."""

    def check(self, directory: Path, config: GPTConfig, labels: int = 0, /) -> None:
        """Raise ``DataError`` unless the weights are of such a model (``labels``: of a classifier); builds nothing."""

    def read(self, directory: Path, model: Model) -> None:
        """Fill ``model`` with the directory's weights."""

    def write(self, directory: Path, model: Model, tokenizer: Tokenizer | None) -> None:
        """Write all but the vocabulary."""


def load_model(directory: Path | str) -> GPT:
    """The language model in ``directory``, whatever its family, in fp32, in evaluation mode.

    What the weights' file says of itself is held against ``config.json`` first: nothing is built for a directory in
    which the two disagree, nor a model that this machine's memory can't hold.
    """
    return _language_model(Path(directory), read_config(Path(directory)))


def _language_model(directory: Path, fields: dict[str, Any]) -> GPT:
    layout, config = format_of(fields), gpt_config(directory, fields)
    layout.check(directory, config)
    _check_memory(directory, config)
    model = GPT(config)
    layout.read(directory, model)
    return model.eval()


def load_classifier(directory: Path | str) -> Classifier:
    """The sequence classifier (as ``GPT2ForSequenceClassification``) in ``directory``, as `load_model`."""
    return _classifier(Path(directory), read_config(Path(directory)))


def _classifier(directory: Path, fields: dict[str, Any]) -> Classifier:
    layout, config = format_of(fields), gpt_config(directory, fields)
    names, pad_id = _labels(directory, fields, config)
    layout.check(directory, config, len(names))
    _check_memory(directory, config)
    model = Classifier(GPT(config), names, pad_id)
    layout.read(directory, model)
    return model.eval()


def load_any(directory: Path | str) -> Model:
    """What ``directory`` says it holds."""
    directory = Path(directory)
    fields = read_config(directory)  # once: it may be of megabytes
    return (_classifier if is_classifier(fields) else _language_model)(directory, fields)


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
    """``config.json`` as a dictionary, made up for a GGUF file; refuses what is of no family that we read."""
    container = container_of(directory := Path(directory))
    path, fields = container.stated_in(directory), container.config_fields(directory)
    found = fields.get("model_type") if isinstance(fields, dict) else type(fields).__name__
    if not isinstance(fields, dict) or found not in FAMILIES:
        raise DataError(f"{path}: expected model_type {', '.join(map(repr, FAMILIES.names()))}, found {shown(found)}")
    names = fields.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(n, str) and _ARCHITECTURE.fullmatch(n) for n in names):
        raise DataError(f"{path}: architectures = {shown(names)}: expected a list of names")
    return fields


def gpt_config(directory: Path | str, fields: Mapping[str, Any] | None = None) -> GPTConfig:
    """Our configuration of the model in ``directory``; refuses what this model does not compute."""
    fields = read_config(Path(directory)) if fields is None else fields
    try:
        return format_of(fields).read_config(fields)
    except (ValueError, TypeError) as error:
        raise DataError(f"{_stated_in(directory)}: {error}") from None
    except KeyError as error:
        raise DataError(f"{_stated_in(directory)}: {error.args[0]}: missing") from None


def _stated_in(directory: Path | str) -> Path:
    return container_of(Path(directory)).stated_in(Path(directory))


def load_vocabulary(directory: Path | str) -> Tokenizer:
    """The vocabulary of the model in ``directory``, as `matching_vocabulary`."""
    return matching_vocabulary(Path(directory), gpt_config(directory).vocab_size)


def matching_vocabulary(directory: Path, rows: int) -> Tokenizer:
    """The vocabulary in ``directory``; refuses one that can't be of an embedding of so many ``rows``."""
    tokenizer = Tokenizer.load(directory)
    if not 0 <= rows - tokenizer.n_vocab <= tokenizer.most_unused:
        unused = f", of which {tokenizer.most_unused:,} may be unused" if tokenizer.most_unused else ""
        raise DataError(
            f"{directory}: expected an id for each of the {rows:,} rows of the embedding{unused} (vocab_size in "
            f"{_stated_in(directory).name}), found {tokenizer.n_vocab:,} ids, end-of-text included; the vocabulary is "
            "of another model"
        )
    return tokenizer


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


def _labels(directory: Path, fields: Mapping[str, Any], config: GPTConfig) -> tuple[list[str], int]:
    """A classifier's labels in the order of their numbers, and the id of its padding."""
    labels, pad_id = fields.get("id2label") or {}, fields.get("pad_token_id")
    if fields.get("id2label") is None and is_classifier(fields):
        labels = _LABELS
    keys = {str(i) for i in range(len(labels))} if isinstance(labels, dict) else set()
    if not keys or set(labels) != keys or type(pad_id) is not int or not 0 <= pad_id < config.vocab_size:
        raise DataError(
            f'{directory / CONFIG_FILE}: expected a classifier\'s id2label (from "0" on) and pad_token_id '
            f"(0 … {config.vocab_size - 1:,}), found {shown(labels)} and {shown(pad_id)}"
        )
    names = [labels[str(i)] for i in range(len(labels))]
    if wrong := [name for name in names if not _is_label(name)]:
        raise DataError(
            f"{directory / CONFIG_FILE}: id2label: expected texts of at most {LONGEST_LABEL:,} characters, "
            f"found {shown(wrong[0])}"
        )
    return names, pad_id


def _is_label(value: Any) -> bool:
    """Whether it is a text that can be written again, which half of a surrogate pair can't."""
    return isinstance(value, str) and len(value) <= LONGEST_LABEL and not re.search("[\ud800-\udfff]", value)


def _check_memory(directory: Path, config: GPTConfig) -> None:
    """Refuse a model that is larger than this machine's memory; where that isn't known, none."""
    needed = 4 * sum(math.prod(shape) for shape in parameter_shapes(config).values())
    here = memory()[0]
    if needed > here > 0:
        raise DataError(
            f"{directory}: the model needs {needed / 1e9:,.1f} GB in float32, this machine has {here / 1e9:,.1f} GB "
            "of memory; use a smaller model"
        )

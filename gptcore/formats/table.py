"""A family whose directories are ``config.json`` and safetensors, told by a table of names used in both directions.

A column of the table says how their tensor comes from ours: transposed (GPT-2 stores linear layers as (in, out)), or
some of the rows (Llama keeps queries, keys and values apart, gate and up too; `parts.py`).  Two functions go between
``config.json`` and `GPTConfig`, and one says which configurations the family expresses *exactly*.

The weights' header is held against the configuration before a model of it is built (``check``).  Loading checks
everything before it copies anything and lists every problem at once: missing, unexpected, wrong shape, wrong number
format, not finite.  fp16 and bf16 weights are widened to fp32 without loss.
Only safetensors are read: the older ``.bin`` files are pickles, which can run code.

Rejected: guessing the nearest architecture for the rest.  A model that loads and computes another function
is worse than one that does not load.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gptcore.artifact import write_json, write_tensors
from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.formats.containers import CONFIG_FILE, Stored, Weights, container_of
from gptcore.formats.containers.safetensors import WEIGHTS_FILE
from gptcore.formats.fields import first
from gptcore.formats.parts import WHOLE, Part
from gptcore.model import GPT, Classifier
from gptcore.model.shapes import parameter_shapes
from gptcore.tokenizer import Tokenizer

_KINDS = {"BF": "bfloat", "F": "float", "I": "int", "U": "uint"}
Model = GPT | Classifier


class Row(NamedTuple):
    """One of their tensors and where it is in ours; ``{}`` in both names stands for the layer."""

    theirs: str
    ours: str
    part: Part = WHOLE


@dataclass(frozen=True)
class TableFormat:
    """A family of model directories."""

    model_type: str
    title: str
    """What people call the architecture."""
    description: str
    """Its parts, in a phrase; ``{gelu}`` stands for the one that a model has."""
    architectures: tuple[str, str]
    """Of a language model, of a classifier."""
    table: tuple[Row, ...]
    """Empty: every parameter under its own name."""
    head: str
    """Their name of the head; a tied one may be stored all the same."""
    expresses: Callable[[GPTConfig], bool]
    """Whether a model of this configuration can be stored without changing what it computes."""
    read_config: Callable[[Mapping[str, Any]], GPTConfig]
    """``config.json`` → ours; raises ``ValueError`` for what this model can't compute."""
    write_config: Callable[[GPTConfig], dict[str, Any]]
    zero_biases: bool = False
    """Whether a bias that the model goes without is stored as zeros."""
    buffers: tuple[str, ...] = ()
    """Ends of names under which older programs stored what is no parameter."""
    prefix: tuple[str, tuple[str, ...]] = ("", ())
    """What some programs leave out before names that begin so."""
    foreign: bool = True
    """Whether `transformers` and other programs read it too."""

    def describe(self, config: GPTConfig) -> str:
        """The parts of such a model, in a phrase."""
        return self.description.format(gelu="GELU in tanh form" if config.mlp == "gelu" else "GELU")

    def is_classifier(self, fields: Mapping[str, Any]) -> bool:
        """Whether a directory with this ``config.json`` holds a classifier."""
        return fields.get("architectures") == [self.architectures[1]]

    def check(self, directory: Path, config: GPTConfig, labels: int = 0) -> None:
        """Hold what the directory's weights say about themselves against ``config``; with ``labels`` of a classifier.

        Reads the header alone, and builds nothing; ``DataError`` lists everything that is wrong with it.
        """
        with container_of(directory).opened(directory) as weights:
            _, problems = self._matched(weights.stored, config, labels)
        self._refuse(weights, problems, config)

    def read(self, directory: Path, model: Model) -> None:
        """Fill ``model``, made from the directory's ``config.json``, with the weights that lie there."""
        with container_of(directory).opened(directory) as weights:
            names, problems = self._matched(weights.stored, model.config, len(model.labels))
            tensors = {row: weights.get(name) for row, name in names.items()}
            problems += [f"{names[row]}: {p}" for row, tensor in tensors.items() if (p := _not_finite(tensor))]
            if self.head in weights.stored and model.config.tie_weights and not model.labels:
                problems += self._other_head(weights, tensors)
        self._refuse(weights, problems, model.config)
        parameters = _parameters(model)
        with torch.no_grad():
            for row, tensor in tensors.items():
                ours = row.part.view(parameters[row.ours], model.config)
                ours.copy_(tensor.view(ours.shape))

    def write(self, directory: Path, model: Model, tokenizer: Tokenizer | None) -> None:
        """Write configuration and weights; raises ``ValueError`` for what the family can't express."""
        config = model.config
        if not self.expresses(config):
            raise ValueError(
                f"layout {self.model_type}: can't express positions = {config.positions}, "
                f"norm = {config.norm}, mlp = {config.mlp} with the options beside them; see "
                "gptcore.formats.directory.portable"
            )
        ours = _parameters(model)
        if left := [name for name in parameter_shapes(config) if name not in ours]:
            raise ValueError(
                f"{left[0]}: expected in the model, but missing; merge its adapter before you save it, and of a copy "
                "for inference save the original"
            )
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / CONFIG_FILE, self._fields(model, tokenizer))
        tensors = {row.theirs: _stored(row.part, _tensor_or_zeros(ours, row.ours), config) for row in self.rows(model)}
        write_tensors(directory / WEIGHTS_FILE, tensors, metadata={"format": "pt"})

    def rows(self, model: nn.Module) -> Iterator[Row]:
        """What is stored of ``model``, a GPT or a Classifier, layer numbers filled in, our names as in the GPT.

        A tied head is the embedding, and a classifier has no use for the head: neither is stored.
        """
        return self._rows([name.removeprefix("gpt.") for name, _ in model.named_parameters()])  # in the model's order

    def _rows(self, names: Iterable[str]) -> Iterator[Row]:
        ours = dict.fromkeys(names)
        if "score.weight" in ours:
            ours.pop("head.weight", None)
        layers = 1 + max(int(name.split(".")[1]) for name in ours if name.startswith("blocks."))
        for theirs, pattern, part in self.table or [Row(name, name) for name in ours]:
            for layer in range(layers if "{}" in theirs else 1):
                row = Row(theirs.format(layer), pattern.format(layer), part)
                if row.ours in ours or (self.zero_biases and pattern.endswith(".bias")):
                    yield row

    def _fields(self, model: Model, tokenizer: Tokenizer | None) -> dict[str, Any]:
        fields = self.write_config(model.config) | {
            "model_type": self.model_type,
            "architectures": [self.architectures[1 if model.labels else 0]],
            "dtype": "float32",
        }
        last = model.config.vocab_size - 1
        eot, stop = (tokenizer.eot, tokenizer.stop) if tokenizer else (last, last)
        fields |= {"bos_token_id": eot, "eos_token_id": stop, "pad_token_id": eot}
        if isinstance(model, Classifier):
            fields["id2label"] = {str(i): label for i, label in enumerate(model.labels)}
            fields["label2id"] = {label: i for i, label in enumerate(model.labels)}
            fields["pad_token_id"] = model.pad_id
        return fields

    def _matched(
        self, stored: Mapping[str, Stored], config: GPTConfig, labels: int
    ) -> tuple[dict[Row, str], list[str]]:
        """The name under which each row is stored, and everything in the header that ``config`` does not ask for."""
        names = [name for name in stored if not name.endswith(self.buffers)]
        left = {self._canonical(name): name for name in names}
        problems = [
            f"{_short(name)}: stored a second time as {_short(last)}"
            for name in names
            if (last := left[self._canonical(name)]) != name
        ]
        shapes, found = parameter_shapes(config), {}
        if labels:
            shapes["score.weight"] = (labels, config.d_model)
        for row in self._rows(shapes):
            if (name := left.pop(row.theirs, None)) is None:
                problems.append(f"{row.theirs}: missing")
            elif problem := _header_problem(stored[name], row.part.shape(_shape_or_zeros(shapes, row.ours), config)):
                problems.append(f"{name}: {problem}")
            else:
                found[row] = name
        if not labels and "head.weight" not in shapes:
            left.pop(self.head, None)  # a tied head that is stored all the same, see `_other_head`
        return found, problems + [f"{_short(left[name])}: unexpected" for name in sorted(left)]

    def _other_head(self, weights: Weights, tensors: Mapping[Row, Tensor]) -> list[str]:
        """A problem if a stored head is not the embedding that ``config.json`` ties it to."""
        embedding = next((tensor for row, tensor in tensors.items() if row.ours == "token_embedding.weight"), None)
        if embedding is None or (
            weights.stored[self.head].shape == tuple(embedding.shape)
            and torch.equal(weights.get(self.head).float(), embedding.float())
        ):
            return []
        return [f"{self.head}: config.json ties it to the token embedding, but the two differ"]

    def _refuse(self, weights: Weights, problems: list[str], config: GPTConfig) -> None:
        if not problems:
            return
        beginning = next((row.theirs for row in self.table if "{}" in row.theirs), "blocks.{}").partition("{}")[0]
        numbers = (name.removeprefix(beginning).partition(".")[0] for name in map(self._canonical, weights.stored))
        layers = len({number for number in numbers if number.isdecimal()})
        asked = f" (config.json asks for {config.n_layer:,} layers, the file has {layers:,})"
        lines = "\n  ".join(first(problems))
        told = asked if layers != config.n_layer else ""
        raise DataError(f"{weights.path}: {len(problems):,} problem(s) with the weights{told}:\n  {lines}")

    def _canonical(self, name: str) -> str:
        prefix, beginnings = self.prefix
        return prefix + name if name.startswith(beginnings) else name


def _stored(part: Part, ours: Tensor, config: GPTConfig) -> Tensor:
    return part.view(ours, config).reshape(part.shape(tuple(ours.shape), config)).contiguous()


def _header_problem(stored: Stored, expected: tuple[int, ...]) -> str | None:
    if stored.shape != expected:
        return f"expected shape {expected}, found {stored.shape}"
    if stored.dtype not in ("F32", "F16", "BF16"):
        words = re.sub(r"^(BF|F|I|U)(?=\d+$)", lambda kind: _KINDS[kind[1]], stored.dtype)
        return f"expected float32, float16 or bfloat16, found {words}"
    return None


def _not_finite(tensor: Tensor) -> str | None:
    if (finite := torch.isfinite(tensor)).all():
        return None
    return f"expected finite numbers, found {int((~finite).sum())} that are not"


def _short(name: str) -> str:
    """A tensor's name as its file has it, cut where no name of a tensor goes on."""
    return name if len(name) <= 120 else f"{name[:119]}…"


def _shape_or_zeros(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    """A parameter's, or that of the zeros that stand for a bias the model goes without."""
    return shapes[name] if name in shapes else shapes[name.removesuffix("bias") + "weight"][:1]


def _parameters(model: Model) -> dict[str, Tensor]:
    """Parameters by the names of the tables: a classifier's GPT without its prefix."""
    return {name.removeprefix("gpt."): tensor for name, tensor in model.state_dict().items()}


def _tensor_or_zeros(parameters: Mapping[str, Tensor], name: str) -> Tensor:
    """A parameter, or the zeros that stand for a bias the model goes without."""
    if name in parameters:
        return parameters[name].detach().float().cpu()
    return torch.zeros(parameters[name.removesuffix("bias") + "weight"].shape[0])

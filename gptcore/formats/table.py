"""A family whose directories are ``config.json`` and safetensors, told by a table of names used in both directions.

A column of the table says how their tensor comes from ours: transposed (GPT-2 stores linear layers as (in, out)), or
the second of three equal parts of the rows (Llama keeps queries, keys and values apart, gate and up too).  Two
functions go between ``config.json`` and `GPTConfig`, and one says which configurations the family expresses *exactly*.

Loading checks everything before it copies anything and lists every problem at once: missing, unexpected,
wrong shape, wrong number format, not finite.  fp16 and bf16 weights are widened to fp32 without loss.
Only safetensors are read: the older ``.bin`` files are pickles, which can run code.

Rejected: guessing the nearest architecture for the rest.  A model that loads and computes another function
is worse than one that does not load.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gptcore.artifact import write_json, write_tensors
from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.model import GPT, Classifier
from gptcore.tokenizer import Tokenizer

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
Model = GPT | Classifier


class Part(NamedTuple):
    """Part ``number`` of ``of`` equal ones of our tensor's rows, in their orientation."""

    number: int = 1
    of: int = 1
    transposed: bool = False

    def view(self, tensor: Tensor) -> Tensor:
        """The part itself; shares our tensor's memory."""
        part = tensor.chunk(self.of)[self.number - 1] if self.of > 1 else tensor
        return part.T if self.transposed else part


WHOLE, TRANSPOSED = Part(), Part(transposed=True)


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
    """Its parts, in a phrase."""
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

    def is_classifier(self, fields: Mapping[str, Any]) -> bool:
        """Whether a directory with this ``config.json`` holds a classifier."""
        return fields.get("architectures") == [self.architectures[1]]

    def read(self, directory: Path, model: Model) -> None:
        """Fill ``model``, made from the directory's ``config.json``, with the weights that lie there."""
        path = directory / WEIGHTS_FILE
        try:
            with safe_open(path, framework="pt") as file:
                found, problems = self._checked(file, model)
        except FileNotFoundError:
            raise DataError(f"{path}: missing (older .bin weights are not read: they can run code)") from None
        except SafetensorError as error:
            raise DataError(f"{path}: damaged or not a safetensors file: {error}") from None
        if problems:
            raise DataError(f"{path}: {len(problems)} problem(s) with the weights:\n  " + "\n  ".join(problems))
        parameters = _parameters(model)
        with torch.no_grad():
            for row, tensor in found.items():
                row.part.view(parameters[row.ours]).copy_(tensor)

    def write(self, directory: Path, model: Model, tokenizer: Tokenizer | None) -> None:
        """Write configuration and weights; raises ``ValueError`` for what the family can't express."""
        config = model.config
        if not self.expresses(config):
            raise ValueError(
                f"layout {self.model_type}: can't express positions = {config.positions}, "
                f"norm = {config.norm}, mlp = {config.mlp}; see gptcore.formats.directory.portable"
            )
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / CONFIG_FILE, self._fields(model, tokenizer))
        ours = _parameters(model)
        tensors = {row.theirs: row.part.view(_tensor_or_zeros(ours, row.ours)).contiguous() for row in self.rows(model)}
        write_tensors(directory / WEIGHTS_FILE, tensors, metadata={"format": "pt"})

    def rows(self, model: nn.Module) -> Iterator[Row]:
        """What is stored of ``model``, a GPT or a Classifier, layer numbers filled in, our names as in the GPT.

        A tied head is the embedding, and a classifier has no use for the head: neither is stored.
        """
        names = {name.removeprefix("gpt."): None for name, _ in model.named_parameters()}  # in the model's order
        if "score.weight" in names:
            names.pop("head.weight", None)
        layers = 1 + max(int(name.split(".")[1]) for name in names if name.startswith("blocks."))
        for theirs, ours, part in self.table or [Row(name, name) for name in names]:
            for layer in range(layers if "{}" in theirs else 1):
                row = Row(theirs.format(layer), ours.format(layer), part)
                if row.ours in names or (self.zero_biases and ours.endswith(".bias")):
                    yield row

    def _fields(self, model: Model, tokenizer: Tokenizer | None) -> dict[str, Any]:
        fields = self.write_config(model.config) | {
            "model_type": self.model_type,
            "architectures": [self.architectures[1 if model.labels else 0]],
            "dtype": "float32",
        }
        eot = tokenizer.eot if tokenizer else model.config.vocab_size - 1
        fields |= {"bos_token_id": eot, "eos_token_id": eot, "pad_token_id": eot}
        if isinstance(model, Classifier):
            fields["id2label"] = {str(i): label for i, label in enumerate(model.labels)}
            fields["label2id"] = {label: i for i, label in enumerate(model.labels)}
            fields["pad_token_id"] = model.pad_id
        return fields

    def _checked(self, file: Any, model: Model) -> tuple[dict[Row, Tensor], list[str]]:
        """The tensors of an open file by the row that each belongs to, and everything that is wrong with them."""
        names = [name for name in file.keys() if not name.endswith(self.buffers)]  # noqa: SIM118
        stored = {self._canonical(name): name for name in names}
        problems = [f"{n}: stored a second time as {s}" for n in names if (s := stored[self._canonical(n)]) != n]
        parameters, found = _parameters(model), {}
        left = dict(stored)
        for row in self.rows(model):
            if row.theirs not in stored:
                problems.append(f"{row.theirs}: missing")
                continue
            name = left.pop(row.theirs)
            tensor = file.get_tensor(name)
            if problem := _tensor_problem(tensor, tuple(row.part.view(parameters[row.ours]).shape)):
                problems.append(f"{name}: {problem}")
            else:
                found[row] = tensor
        if not model.labels and (name := left.pop(self.head, "")):  # a tied head that is stored all the same
            embedding = next((tensor for row, tensor in found.items() if row.ours == "token_embedding.weight"), None)
            if embedding is not None and not torch.equal(file.get_tensor(name).float(), embedding.float()):
                problems.append(f"{name}: config.json ties it to the token embedding, but the two differ")
        problems += [f"{left[name]}: unexpected" for name in sorted(left)]
        return found, problems

    def _canonical(self, name: str) -> str:
        prefix, beginnings = self.prefix
        return prefix + name if name.startswith(beginnings) else name


def missing(stored: Mapping[str, Any], names: Mapping[str, Any], optional: str = "") -> list[str]:
    """A problem for each of ``names`` that ``stored`` goes without."""
    return [f"{key}: missing" for key in names if key not in stored and key != optional]


def other_values(stored: Mapping[str, Any], computed: Mapping[str, Any]) -> list[str]:
    """Keys with another value than the one this model computes, for which an absent key stands too."""
    return [
        f"{key} = {stored[key]!r}: this model computes {value!r} only"
        for key, value in computed.items()
        if key in stored and stored[key] != value
    ]


def _tensor_problem(tensor: Tensor, expected: tuple[int, ...]) -> str | None:
    if tuple(tensor.shape) != expected:
        return f"expected shape {expected}, found {tuple(tensor.shape)}"
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"expected float32, float16 or bfloat16, found {str(tensor.dtype).removeprefix('torch.')}"
    if not torch.isfinite(tensor).all():
        return f"expected finite numbers, found {int((~torch.isfinite(tensor)).sum())} that are not"
    return None


def _parameters(model: Model) -> dict[str, Tensor]:
    """Parameters by the names of the tables: a classifier's GPT without its prefix."""
    return {name.removeprefix("gpt."): tensor for name, tensor in model.state_dict().items()}


def _tensor_or_zeros(parameters: Mapping[str, Tensor], name: str) -> Tensor:
    """A parameter, or the zeros that stand for a bias the model goes without."""
    if name in parameters:
        return parameters[name].detach().float().cpu()
    return torch.zeros(parameters[name.removesuffix("bias") + "weight"].shape[0])

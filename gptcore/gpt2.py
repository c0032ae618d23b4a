"""Model directories ↔ our models: GPT-2's layout, Llama's and our own, each a table used in both directions.

A directory holds ``config.json``, ``model.safetensors`` and, if it has a vocabulary, ``vocab.json`` and
``merges.txt``.  Our own checkpoints are such directories too, so what loads a published GPT-2 is what loads
our models, every day.  ``model_type`` in ``config.json`` says which of `layouts.py` it is; what GPT-2 can
express is saved in its layout, everything else in our own.

Loading checks everything before it copies anything and lists every problem at once: missing, unexpected,
wrong shape, wrong number format, not finite.  fp16 and bf16 weights are widened to fp32 without loss.
Only safetensors are read: the older ``.bin`` files are pickles, which can run code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gptcore.artifact import write_json, write_tensors
from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.finetune import Classifier
from gptcore.layouts import LAYOUTS, Layout, Row, native
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def load_gpt2(directory: Path | str) -> GPT:
    """The language model in ``directory``, whatever its layout, in fp32, in evaluation mode."""
    directory = Path(directory)
    fields = read_config(directory)
    model = GPT(gpt_config(directory, fields))
    _load_weights(model, directory, layout_of(fields))
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
    _load_weights(model, directory, layout_of(fields))
    return model.eval()


def save_gpt2(
    model: GPT | Classifier, directory: Path | str, tokenizer: Tokenizer | None = None, layout: Layout | None = None
) -> None:
    """Write ``model``, with its vocabulary if given, so that it loads to the same function.

    Without ``layout`` it is GPT-2's where that is exact, so that `transformers` loads the directory, else our
    own (`layouts.native`).  In GPT-2's a model without biases is written with biases of zero, which compute
    the same.  Raises ``ValueError`` for a layout that can't express the model.
    """
    directory, config = Path(directory), _gpt_of(model).config
    layout = layout or native(config)
    if not layout.expresses(config):
        raise ValueError(
            f"layout {layout.model_type}: can't express positions = {config.positions}, "
            f"norm = {config.norm}, mlp = {config.mlp}; see gptcore.layouts.portable"
        )
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / CONFIG_FILE, _fields(model, tokenizer, layout))
    parameters = _parameters(model)
    tensors = {row.theirs: row.view(_tensor_or_zeros(parameters, row.ours)).contiguous() for row in layout.rows(model)}
    write_tensors(directory / WEIGHTS_FILE, tensors, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save(directory)


def read_config(directory: Path) -> dict[str, Any]:
    """``config.json`` as a dictionary; refuses what is of no layout that we read."""
    path = Path(directory) / CONFIG_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: missing; expected a model directory, an export or a checkpoint") from None
    except ValueError as error:
        raise DataError(f"{path}: expected JSON: {error}") from None
    found = fields.get("model_type") if isinstance(fields, dict) else type(fields).__name__
    if not isinstance(fields, dict) or found not in LAYOUTS:
        raise DataError(f"{path}: expected model_type {', '.join(map(repr, LAYOUTS))}, found {found!r}")
    return fields


def gpt_config(directory: Path | str, fields: Mapping[str, Any] | None = None) -> GPTConfig:
    """Our configuration of the model in ``directory``; refuses what this model does not compute."""
    fields = read_config(Path(directory)) if fields is None else fields
    try:
        return layout_of(fields).read(fields)
    except (ValueError, TypeError) as error:
        raise DataError(f"{Path(directory) / CONFIG_FILE}: {error}") from None


def layout_of(fields: Mapping[str, Any]) -> Layout:
    """The layout of a directory with this ``config.json``."""
    return LAYOUTS[fields["model_type"]]


def is_classifier(fields: Mapping[str, Any]) -> bool:
    """Whether a directory with this ``config.json`` holds a classifier."""
    return fields.get("architectures") == [layout_of(fields).architectures[1]]


def _fields(model: GPT | Classifier, tokenizer: Tokenizer | None, layout: Layout) -> dict[str, Any]:
    config = _gpt_of(model).config
    fields = layout.write(config) | {
        "model_type": layout.model_type,
        "architectures": [layout.architectures[isinstance(model, Classifier)]],
        "dtype": "float32",
    }
    eot = tokenizer.eot if tokenizer else config.vocab_size - 1
    fields |= {"bos_token_id": eot, "eos_token_id": eot, "pad_token_id": eot}
    if isinstance(model, Classifier):
        fields["id2label"] = {str(i): label for i, label in enumerate(model.labels)}
        fields["label2id"] = {label: i for i, label in enumerate(model.labels)}
        fields["pad_token_id"] = model.pad_id
    return fields


def _load_weights(model: GPT | Classifier, directory: Path, layout: Layout) -> None:
    path = directory / WEIGHTS_FILE
    try:
        with safe_open(path, framework="pt") as file:
            found, problems = _checked(file, model, layout)
    except FileNotFoundError:
        raise DataError(f"{path}: missing (older .bin weights are not read: they can run code)") from None
    except SafetensorError as error:
        raise DataError(f"{path}: damaged or not a safetensors file: {error}") from None
    if problems:
        raise DataError(f"{path}: {len(problems)} problem(s) with the weights:\n  " + "\n  ".join(problems))
    parameters = _parameters(model)
    with torch.no_grad():
        for row, tensor in found.items():
            row.view(parameters[row.ours]).copy_(tensor)


def _checked(file: Any, model: GPT | Classifier, layout: Layout) -> tuple[dict[Row, Tensor], list[str]]:
    """The tensors of an open file by the row that each belongs to, and everything that is wrong with them."""
    names = [name for name in file.keys() if not layout.is_buffer(name)]  # noqa: SIM118
    stored = {layout.canonical(name): name for name in names}
    problems = [f"{n}: stored a second time as {s}" for n in names if (s := stored[layout.canonical(n)]) != n]
    parameters, found = _parameters(model), {}
    left = dict(stored)
    for row in layout.rows(model):
        if row.theirs not in stored:
            problems.append(f"{row.theirs}: missing")
            continue
        name = left.pop(row.theirs)
        tensor = file.get_tensor(name)
        if problem := _tensor_problem(tensor, tuple(row.view(parameters[row.ours]).shape)):
            problems.append(f"{name}: {problem}")
        else:
            found[row] = tensor
    if isinstance(model, GPT) and (name := left.pop(layout.head, "")):  # a tied head that is stored all the same
        embedding = next((tensor for row, tensor in found.items() if row.ours == "token_embedding.weight"), None)
        if embedding is not None and not torch.equal(file.get_tensor(name).float(), embedding.float()):
            problems.append(f"{name}: config.json ties it to the token embedding, but the two differ")
    problems += [f"{left[name]}: unexpected" for name in sorted(left)]
    return found, problems


def _tensor_problem(tensor: Tensor, expected: tuple[int, ...]) -> str | None:
    if tuple(tensor.shape) != expected:
        return f"expected shape {expected}, found {tuple(tensor.shape)}"
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"expected float32, float16 or bfloat16, found {str(tensor.dtype).removeprefix('torch.')}"
    if not torch.isfinite(tensor).all():
        return f"expected finite numbers, found {int((~torch.isfinite(tensor)).sum())} that are not"
    return None


def _parameters(model: GPT | Classifier) -> dict[str, Tensor]:
    """Parameters by the names of the layouts' tables: a classifier's GPT without its prefix."""
    return {name.removeprefix("gpt."): tensor for name, tensor in model.state_dict().items()}


def _tensor_or_zeros(parameters: Mapping[str, Tensor], name: str) -> Tensor:
    """A parameter, or the zeros that stand for a bias the model goes without."""
    if name in parameters:
        return parameters[name].detach().float().cpu()
    return torch.zeros(parameters[name.removesuffix("bias") + "weight"].shape[0])


def _gpt_of(model: GPT | Classifier) -> GPT:
    return model.gpt if isinstance(model, Classifier) else model

"""An adapter as `peft` saves and loads it: ``adapter_config.json`` and ``adapter_model.safetensors``.

Tensors have the names that they have in `peft`'s model around the family's: ``base_model.model.`` before the linear
layer's own, ``.lora_A.weight`` after it.  B's rows stand as theirs do, which for GPT-NeoX is by heads.  A
classifier's head is trained whole and lies beside them, as one of ``modules_to_save``.

``base_model_name_or_path`` stays empty: where a foundation lies differs from machine to machine, and the same adapter
is the same bytes.  Whoever loads it names the base: ``PeftModel.from_pretrained(base, directory)``.

Reading takes plain LoRA and refuses what would compute something else (DoRA, layers with ranks or scales of their
own, trained biases); a field that is unknown here may hold nothing.  All problems are told at once, and nothing is
attached before all is well.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptcore import ranges
from gptcore.adapters.config import ALL_LINEAR, AdapterConfig
from gptcore.adapters.lora import Adapter, Target, attach, family_of, leaves, linear_layers
from gptcore.artifact import write_json, write_tensors
from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.formats.containers.safetensors import opened_file
from gptcore.formats.table import Model
from gptcore.model import Classifier
from gptcore.ranges import wrong
from gptcore.untrusted import read_json, shown

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
MOST_TOLD = 20
"""Problems in a message."""
_PREFIX, _HEAD = "base_model.model.", "base_model.model.score.weight"
_A, _B = ".lora_A.weight", ".lora_B.weight"

_COMPUTED = {"peft_type": ("LORA",), "bias": ("none",), "init_lora_weights": (True, False, "gaussian")}
"""Field → the values with which plain LoRA on the weights as they are is meant."""
_READ = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}
"""Theirs → ours."""
_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules",
    "fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform", "lora_ga_config", "loftq_config",
    "megatron_config", "megatron_core", "modules_to_save", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "target_modules", "task_type",
}  # fmt: skip
"""On what is computed: how weights were drawn, how they lie, and which tensors there should be, as these tell."""


def save(adapter: Adapter, directory: Path | str) -> None:
    """Write LoRA's pairs, and a classifier's head beside them; nothing where the adapter is not LoRA."""
    if not adapter.targets:
        return
    directory, model = Path(directory), adapter.model
    directory.mkdir(parents=True, exist_ok=True)
    tensors = dict[str, Tensor]()
    for target, A, B in adapter.pairs():
        tensors[_PREFIX + target.theirs + _A] = A
        tensors[_PREFIX + target.theirs + _B] = _in_their_order(target, B, model.config).reshape(B.shape)
    if isinstance(model, Classifier):
        tensors[_HEAD] = model.score.weight
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    write_json(directory / CONFIG_FILE, _fields(adapter))
    write_tensors(directory / WEIGHTS_FILE, plain, metadata={"format": "pt"})


def load(directory: Path | str, model: Model) -> Adapter:
    """Attach the adapter in ``directory`` to ``model``, in place; of a classifier its head is replaced.

    Raises ``DataError`` with everything that does not fit, and leaves the model as it was.
    """
    directory = Path(directory)
    rank, alpha, dropout = _read_fields(directory / CONFIG_FILE)
    with opened_file(path := directory / WEIGHTS_FILE) as (file, stored):
        tensors = {name: file.get_tensor(name) for name in stored}
    known = {target.theirs: target for target in linear_layers(model, family_of(model))}
    given = {name.removeprefix(_PREFIX).removesuffix(_A).removesuffix(_B) for name in tensors}
    chosen = [name for name in known if name in given]
    problems = list(_problems(tensors, _shapes(model, [known[name] for name in chosen], rank)))
    if problems or not chosen:
        told = problems[:MOST_TOLD] + [f"… and {len(problems) - MOST_TOLD:,} more"] * (len(problems) > MOST_TOLD)
        raise DataError(
            f"{path}: not of an adapter for this model, {len(problems):,} problem(s):\n  "
            + "\n  ".join(told or ["no linear layer of it has a pair"])
        )
    adapter = attach(model, AdapterConfig(rank, alpha, dropout, chosen), seed=0)
    with torch.no_grad():
        for target, A, B in adapter.pairs():
            A.copy_(tensors[_PREFIX + target.theirs + _A])
            ours = _in_their_order(target, B, model.config)
            ours.copy_(tensors[_PREFIX + target.theirs + _B].view(ours.shape))
        if isinstance(model, Classifier):
            model.score.weight.copy_(tensors[_HEAD])
    return adapter


def _in_their_order(target: Target, B: Tensor, config: GPTConfig) -> Tensor:
    """B (rows, rank) with the rows of its product as the family has them; shares our memory."""
    return target.part.view(B, config) if target.part.name == "by head" else B


def _fields(adapter: Adapter) -> dict[str, Any]:
    """``adapter_config.json``: what `peft` needs to build the same."""
    config, model = adapter.config, adapter.model
    alpha = int(config.alpha) if config.alpha == int(config.alpha) else config.alpha
    first = config.first_block(model.config.n_layer)
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if model.labels else "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": config.rank,
        "lora_alpha": alpha,
        "lora_dropout": config.dropout,
        "bias": "none",
        "fan_in_fan_out": any(target.part.transposed for target in adapter.targets),
        "inference_mode": True,
        "init_lora_weights": True,
        "target_modules": leaves(adapter.targets) if config.targets == [ALL_LINEAR] else sorted(config.targets),
        "layers_to_transform": list(range(first, model.config.n_layer)) if config.blocks else None,
        "modules_to_save": ["classifier", "score"] if model.labels else None,  # as `peft` has it for every classifier
    }


def _read_fields(path: Path) -> tuple[int, float, float]:
    """Rank, alpha and dropout; raises ``DataError`` for what is not plain LoRA."""
    try:
        fields = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: missing; expected an adapter as `peft` saves it") from None
    except ValueError as error:
        raise DataError(f"{path}: expected an adapter's configuration in JSON: {error}") from None
    if not isinstance(fields, dict):
        raise DataError(f"{path}: expected an object of fields, found {shown(fields)}")
    problems = [
        wrong(name, fields[name], " or ".join(map(repr, right)))
        for name, right in _COMPUTED.items()
        if name in fields and fields[name] not in right
    ]
    problems += [
        f"{shown(name)[1:-1]} = {shown(fields[name])}: plain LoRA is read only"
        for name in sorted(set(fields) - set(_COMPUTED) - set(_READ) - _WITHOUT_EFFECT)
        if fields[name]
    ]
    if fields.get("r") in (0, False):
        problems.append(wrong("r", fields["r"], "a rank of at least 1"))
    given = {ours: fields.get(theirs) for theirs, ours in _READ.items()}
    found = ranges.problems(AdapterConfig, given)
    problems += [theirs + found[ours].removeprefix(ours) for theirs, ours in _READ.items() if ours in found]
    if problems:
        raise DataError(f"{path}: {'; '.join(problems[:MOST_TOLD])}")
    return fields["r"], fields["lora_alpha"], fields["lora_dropout"]


def _shapes(model: Model, targets: list[Target], rank: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor of such an adapter."""
    shapes: dict[str, tuple[int, ...]] = {}
    for target in targets:
        out_features, in_features = model.body.get_parameter(f"{target.ours}.weight").shape
        start, end = target.part.rows(out_features, model.config)
        shapes[_PREFIX + target.theirs + _A] = (rank, in_features)
        shapes[_PREFIX + target.theirs + _B] = (end - start, rank)
    return shapes | {_HEAD: (len(model.labels), model.config.d_model)} if model.labels else shapes


def _problems(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    yield from (f"{name}: missing" for name in shapes if name not in tensors)
    yield from (f"{shown(name)[1:-1]}: unexpected" for name in sorted(tensors) if name not in shapes)
    for name in (name for name in shapes if name in tensors):
        tensor = tensors[name]
        if tuple(tensor.shape) != shapes[name]:
            yield f"{name}: expected shape {shapes[name]}, found {tuple(tensor.shape)}"
        elif tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            yield f"{name}: expected float32, float16 or bfloat16, found {str(tensor.dtype).removeprefix('torch.')}"
        elif not torch.isfinite(tensor).all():
            yield f"{name}: expected finite numbers, found others"

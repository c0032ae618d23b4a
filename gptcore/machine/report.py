"""``python -m gptcore info``: this machine, and what a model directory or a configuration costs on it.

Without arguments the machine alone.  A directory adds what it holds and the speed of generating from it; a
preset or a shape adds training as well, as does any training option beside a directory.  Nothing is trained
or loaded: see `probe.py` for what is measured and `estimate.py` for what is computed from it.

Units are decimal: 1 MB is 10⁶ bytes.
"""

import argparse
import json
from dataclasses import asdict, replace
from typing import Any

from gptcore import runtime
from gptcore.config import CHOICES, PRESETS, GPTConfig
from gptcore.errors import ParameterError
from gptcore.formats.directory import gpt_config, is_classifier, read_config
from gptcore.machine.estimate import DECODE_SHARE, Decoding, Training, decoding, parameters, training
from gptcore.machine.probe import Machine, probe
from gptcore.machine.units import in_bytes, in_flops, in_rate, in_seconds

SHAPE = ("vocab_size", "context_length", "d_model", "n_layer", "n_head")
HELD = (*SHAPE, *CHOICES)
TRAINING = ("batch_size", "steps", "optimizer", "dtype")
Row = tuple[str, str]


def show(options: argparse.Namespace) -> None:
    """Print what ``options`` of the command line ask for; raises before anything is measured."""
    config = _config(options)
    fields = read_config(options.directory) if options.directory else {}
    wanted = {name: getattr(options, name) for name in TRAINING if getattr(options, name) is not None}
    if problems := [f"{name} = {wanted[name]}" for name in ("batch_size", "steps") if wanted.get(name, 1) < 1]:
        raise ParameterError(f"{', '.join(problems)}: expected at least 1")
    machine = probe()
    cost, speeds = None, []
    if config and (wanted or not options.directory):
        cost = training(config, machine, **wanted)
    if config and not (fields and is_classifier(fields)):
        speeds = [decoding(config, machine, dtype) for dtype in DECODE_SHARE]
    if options.json:
        document = _document(machine, fields, config, cost, speeds)
        print(json.dumps(document, indent=1, ensure_ascii=False))
        return
    _print("machine", _machine_rows(machine))
    if config:
        _print("model", _model_rows(fields, config))
    if cost and config:
        _print("training (estimated)", _training_rows(cost, config, machine, wanted))
    if speeds:
        _print("generating one text (estimated)", [_decoding_row(speed) for speed in speeds])
    for line in _warnings(machine, cost, speeds):
        print(f"\nwarning: {line}")


def _config(options: argparse.Namespace) -> GPTConfig | None:
    """What is to be estimated, or None for the machine alone."""
    changes = {name: getattr(options, name) for name in HELD if getattr(options, name) is not None}
    if options.directory:
        if options.preset or changes:
            named = ["preset"] * bool(options.preset) + list(changes)
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in named)
            raise ParameterError(f"{flags}: not together with a directory, which says what its model is; leave one out")
        return gpt_config(options.directory)
    trains = any(getattr(options, name) is not None for name in TRAINING)
    if not (options.preset or changes or trains):
        return None
    return replace(PRESETS[options.preset or "gpt2"], **changes)


# --- in words --------------------------------------------------------------------------------------------


def _print(title: str, rows: list[Row]) -> None:
    if title != "machine":
        print()
    print(title)
    for name, value in rows:
        print(f"  {name:17} {value}")


def _machine_rows(machine: Machine) -> list[Row]:
    known = f"{machine.physical_cores} physical, " if machine.physical_cores else ""
    memory = (
        f"{in_bytes(machine.memory)}, {in_bytes(machine.memory_available)} available" if machine.memory else "unknown"
    )
    products = f"{in_flops(machine.float32_flops)} in float32, {in_flops(machine.bfloat16_flops)} in bfloat16"
    return [
        ("processor", machine.processor),
        ("cores", f"{known}{machine.logical_cores} logical"),
        ("threads", str(machine.threads)),
        ("instruction sets", ", ".join(machine.instructions) or machine.kernels),
        ("memory", memory),
        ("matrix products", products),
        ("bandwidth", f"{machine.bandwidth / 1e9:.1f} GB/s reading"),
        ("bfloat16", "used for training" if machine.bfloat16 else "not used: slow or missing here"),
        ("allocator", "keeps large buffers" if machine.keeps_buffers else "the system's, left alone"),
        ("GPU", ", ".join(machine.gpus) + ": not used by these commands" if machine.gpus else "none"),
        ("machine class", machine.machine_class),
    ]


def _model_rows(fields: dict[str, Any], config: GPTConfig) -> list[Row]:
    rows = [("architectures", ", ".join(fields.get("architectures") or ["not told"]))] if fields else []
    rows += [(name, f"{getattr(config, name):,}") for name in SHAPE]
    rows += [(name, getattr(config, name)) for name in CHOICES]
    rows += [(name, value) for name, value in config.unusual.items() if name not in CHOICES]
    return [*rows, ("parameters", f"{parameters(config):,}")]


def _training_rows(cost: Training, config: GPTConfig, machine: Machine, wanted: dict[str, Any]) -> list[Row]:
    rows = cost.tokens_per_step // config.context_length
    step = f"{rows} × {config.context_length:,} = {cost.tokens_per_step:,} tokens, {in_seconds(cost.step_seconds)}"
    peak = machine.peak(wanted.get("dtype", "auto"))
    return [
        ("step", f"{step} ({wanted.get('optimizer', 'adamw')})"),
        ("", _shares(cost.step_parts)),
        ("speed", f"{in_rate(cost.tokens_per_second)}, {cost.peak_share:.0%} of {in_flops(peak)}"),
        ("work", f"{cost.flops_per_token / 1e6:,.1f} MFLOP/token"),
        ("time", f"{in_seconds(cost.seconds)} for {cost.steps:,} steps, {cost.steps * cost.tokens_per_step:,} tokens"),
        ("memory", f"{in_bytes(cost.memory)} at the peak"),
        ("", _shares(cost.memory_parts)),
    ]


def _shares(parts: dict[str, float]) -> str:
    """The parts of a sum, largest first, those below half a percent left out."""
    total = sum(parts.values())
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value / total:.0%}" for name, value in ordered if value >= 0.005 * total)


def _decoding_row(speed: Decoding) -> Row:
    weights, memory = in_bytes(speed.weight_bytes), in_bytes(speed.memory)
    return speed.dtype, f"{in_rate(speed.tokens_per_second)}, {weights} of weights a token, {memory} while loading"


def _warnings(machine: Machine, cost: Training | None, speeds: list[Decoding]) -> list[str]:
    """A line for each piece of work that will not fit into the memory available."""
    available, lines = machine.memory_available, []
    if available and cost and cost.memory > available:
        lines.append(
            f"training needs about {in_bytes(cost.memory)}, {in_bytes(available)} are available: it will be slow or be "
            "killed; lower --batch-size, --context-length, --d-model or --n-layer"
        )
    needed = min((speed.memory for speed in speeds), default=0.0)
    if available and needed > available:
        lines.append(f"loading the model needs about {in_bytes(needed)}, {in_bytes(available)} are available")
    return lines


# --- as JSON ---------------------------------------------------------------------------------------------


def _document(
    machine: Machine, fields: dict[str, Any], config: GPTConfig | None, cost: Training | None, speeds: list[Decoding]
) -> dict[str, Any]:
    document: dict[str, Any] = {"machine": asdict(machine) | {"settings": runtime.settings()}}
    if config:
        held = {"architectures": fields["architectures"]} if fields.get("architectures") else {}
        document["model"] = held | asdict(config) | {"parameters": parameters(config)}
    if cost:
        derived = {name: getattr(cost, name) for name in ("step_seconds", "tokens_per_second", "seconds", "memory")}
        document["training"] = asdict(cost) | derived
    if speeds:
        document["decoding"] = {speed.dtype: asdict(speed) for speed in speeds}
    return document | {"warnings": _warnings(machine, cost, speeds)}

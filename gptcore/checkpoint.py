"""Training states on disk: weights, optimizer state and step, in safetensors behind a manifest.

A state is an artifact directory ``step-00000250`` (see `artifact.py`): whole and verified, or ignored.
The random numbers and the data order are functions of the step, so weights, optimizer and step are all
there is to save. Nothing is pickled.  "Latest" is the highest step whose files verify, never a clock; a
damaged one is reported and the one before it is used.
"""

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gptcore.artifact import MANIFEST, commit, open_verified, write_tensors
from gptcore.errors import DataError
from gptcore.formats.header import opened
from gptcore.optim import Optimizers

KIND = "training state"


def save(
    directory: Path | str, model: nn.Module, optimizers: Optimizers, step: int, facts: Mapping[str, Any] | None = None
) -> Path:
    """Commit the state after ``step`` steps as ``directory/step-…``; ``facts`` is small JSON kept with it."""
    target = Path(directory) / f"step-{step:08d}"
    with commit(target, kind=KIND, config={"step": step, "facts": dict(facts or {})}) as draft:
        write_tensors(draft / "weights.safetensors", _contiguous(dict(model.named_parameters())))
        write_tensors(draft / "optimizer.safetensors", _contiguous(optimizers.state_tensors()))
    return target


def load(state: Path | str, model: nn.Module, optimizers: Optimizers) -> tuple[int, dict[str, Any]]:
    """Restore the state directory ``state`` in place; returns (step, facts)."""
    state = Path(state)
    manifest = open_verified(state, KIND)
    step, facts = manifest.config.get("step"), manifest.config.get("facts")
    if type(step) is not int or step < 0 or not isinstance(facts, dict):
        raise DataError(f"{state}: its manifest names no step; delete the directory to start afresh")
    weights, moments = _tensors(state / "weights.safetensors"), _tensors(state / "optimizer.safetensors")
    parameters = dict(model.named_parameters())
    if {n: (p.shape, p.dtype) for n, p in parameters.items()} != {n: (w.shape, w.dtype) for n, w in weights.items()}:
        raise DataError(f"{state}: the weights are of another model; delete the directory to start afresh")
    if not _fits(optimizers, moments):
        raise DataError(f"{state}: the state is of another optimizer; delete the directory to start afresh")
    for name, parameter in parameters.items():
        parameter.data.copy_(weights[name])
    optimizers.load_state_tensors(moments)
    return step, facts


def latest(directory: Path | str) -> Path | None:
    """The state with the highest step that verifies, or None; warns of each one that does not."""
    for state in sorted(Path(directory).glob("step-*"), reverse=True):
        try:
            open_verified(state, KIND)
        except DataError as error:
            warnings.warn(f"skipping a damaged training state: {error}", stacklevel=2)
            continue
        return state
    return None


def prune(directory: Path | str, keep: int) -> None:
    """Delete all but the ``keep`` highest states."""
    states = sorted(p for p in Path(directory).glob("step-*") if (p / MANIFEST).exists())
    for state in states[: max(0, len(states) - keep)]:
        shutil.rmtree(state, ignore_errors=True)


def _tensors(path: Path) -> dict[str, Tensor]:
    with opened(path) as (file, stored):
        return {name: file.get_tensor(name) for name in stored}


def _fits(optimizers: Optimizers, moments: Mapping[str, Tensor]) -> bool:
    """Whether the state tensors ``member.parameter.key`` have the shapes of these optimizers' parameters."""
    shapes = {
        f"{m}.{i}": parameter.shape
        for m, member in enumerate(optimizers.members)
        for i, parameter in enumerate(p for group in member.param_groups for p in group["params"])
    }
    owners = {name: name.rpartition(".")[0] for name in moments}
    return set(owners.values()) <= set(shapes) and all(
        tensor.ndim == 0 or tensor.shape == shapes[owners[name]] for name, tensor in moments.items()
    )


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}

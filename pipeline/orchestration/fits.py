"""Whether a training fits this machine: said before anything runs, from its parameters alone.

Memory comes from `gptcore.machine.estimate` (within 15 %, so only what is more than that above the machine's memory, or
its control group's, is refused), disk is what is surely written: two saved states and the checkpoint.  Time is only
stated, for one speed, because measuring this machine's takes longer than the whole check.  Whoever knows better sets
``GPTCORE_ANYWAY=1``.

The sections are found by their dataclasses, not by their names.  A foundation that is not our own has a size once it
is loaded: its tuning is checked when it is about to run.  Not covered: tuning on instructions, whose lengths are not
known before they are encoded, and what the other stages take; nor the activations that a tuning of the last blocks
keeps on disk, which the stage itself checks before it computes one.

Rejected: refusing what is above the memory that is free just now: that changes from minute to minute.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from gptcore.config import Architecture, GPTConfig
from gptcore.errors import DiskError, GPTCoreError, ParameterError
from gptcore.machine.estimate import Trained, flops_per_token, memory_parts, parameters, state_bytes
from gptcore.machine.units import in_bytes, in_seconds
from gptcore.memory import memory
from gptcore.ranges import wrong
from gptcore.train_config import TrainConfig
from pipeline import project
from pipeline.contract import params
from pipeline.contract.source_code import covers
from pipeline.orchestration import dvc_files
from pipeline.settings.finetune_classify import FinetuneClassifyConfig
from pipeline.settings.load_gpt2 import LoadGpt2Config
from pipeline.settings.pretrain import PretrainConfig
from pipeline.settings.tokenizer import TokenizerConfig
from pipeline.settings.windows import WindowsConfig

ANYWAY = "GPTCORE_ANYWAY"
OFF_BY = 0.15
"""By how much an estimate of memory may be wrong."""
GPT2_IDS = 50_257
STATED_FLOPS = 100e9
"""FLOP/s for which time is stated: two or three cores of a laptop."""

Sections = Mapping[str, Any]
"""Section of params.yaml → its dataclass."""
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Need:
    """What one training takes."""

    section: str
    """Its section of params.yaml, which is its stage's name too."""
    parameters: int
    memory: Mapping[str, float]
    """Kind of tensor → bytes."""
    disk: int
    """Bytes that are surely written."""
    flops: float
    rows: str
    """The setting of rows in a batch."""
    others: str
    """The settings of what else decides activations."""
    size: str
    """The settings of the model's size, the most effective ones."""

    @property
    def peak(self) -> float:
        return sum(self.memory.values())

    @property
    def lever(self) -> str:
        """The settings to lower, by what takes the most memory."""
        model = sum(self.memory.get(part, 0.0) for part in ("weights", "gradients", "optimizer", "copies", "logits"))
        return self.size if model > self.memory["activations"] else self.rows or self.others

    def __str__(self) -> str:
        return (
            f"{self.section}: {self.parameters:,} parameters; about {in_bytes(self.peak)} of memory, at least "
            f"{in_bytes(self.disk)} of disk, {in_seconds(self.flops / STATED_FLOPS)} at {STATED_FLOPS / 1e9:g} GFLOP/s"
        )


def needs(sections: Sections, root: Path, loaded: GPTConfig | None = None) -> Iterator[Need]:
    """What the trainings take of which that can be known before they run; ``loaded`` is a foundation from elsewhere."""
    pretraining, windows = _of(sections, PretrainConfig), _of(sections, WindowsConfig)
    tokenizer, model = _of(sections, TokenizerConfig), _of(sections, Architecture)
    if not (pretraining and windows and tokenizer and model):
        return
    (name, cfg), (_, words), (_, shape) = pretraining, tokenizer, model
    vocabulary = GPT2_IDS if words.kind == "gpt2" else words.vocab_size
    config = shape.for_data(vocabulary, windows[1].context_length)
    smaller = f"{model[0]}.n_layer or {model[0]}.d_model"
    is_wide = words.kind != "gpt2" and 2 * vocabulary * shape.d_model > parameters(config)
    size = f"{tokenizer[0]}.vocab_size" if is_wide else smaller
    context = f"{windows[0]}.context_length, {smaller}"
    yield _need(name, cfg, config, ("batch_windows", cfg.batch_windows), context, size)
    tuned = _of(sections, FinetuneClassifyConfig)
    if tuned and _tunes_ours(sections, root):
        yield _tuning(*tuned, config, smaller, size)
    elif tuned and loaded:
        part = f"the part that is tuned ({tuned[0]}.adapter)"
        yield _tuning(*tuned, loaded, part, part)


def check(sections: Sections, root: Path, only: str = "") -> list[Need]:
    """What the trainings take (or the one of the section ``only``, which is about to run).

    Raises ``ParameterError`` for one that would tune more blocks than there are or can't fit into memory,
    ``DiskError`` for one that is still to be made and can't fit on the disk.
    """
    loaded = _loaded(sections, root) if only else None
    found = [need for need in needs(sections, root, loaded) if only in ("", need.section)]
    _check_blocks(sections, root, only)
    if os.environ.get(ANYWAY, "0") in ("", "0"):
        for need in found:
            _check_memory(need)
            if only or not all((root / out).exists() for out in _outs(need.section, root)):
                _check_disk(need, root)
    return found


def _check_blocks(sections: Sections, root: Path, only: str) -> None:
    """Refuse to tune more blocks than the model has that is to be trained first."""
    model = _of(sections, Architecture)
    if model is None or not _tunes_ours(sections, root):
        return
    for name, cfg in sections.items():
        adapter, most = getattr(cfg, "adapter", None), model[1].n_layer
        if only in ("", name) and adapter is not None and adapter.blocks > most:
            raise ParameterError(
                wrong(f"{name}.adapter.blocks", adapter.blocks, f"at most {most}, {model[0]}.n_layer; 0 stands for all")
            )


def _tunes_ours(sections: Sections, root: Path) -> bool:
    """Whether the foundation is the model that is pretrained here."""
    ours, source = _of(sections, PretrainConfig), _of(sections, LoadGpt2Config)
    return bool(ours and source and covers(_outs(ours[0], root), os.path.normpath(source[1].source)))


def _loaded(sections: Sections, root: Path) -> GPTConfig | None:
    """The foundation that is there to be tuned, if it comes from elsewhere."""
    section = _of(sections, LoadGpt2Config)
    found = [root / out for out in _outs(section[0], root)] if section and not _tunes_ours(sections, root) else []
    directory = next((path for path in found if (path / "config.json").is_file()), None)
    if directory is None:
        return None
    from gptcore.formats.directory import gpt_config  # PyTorch comes with it, which the default run's check is without

    try:
        return gpt_config(directory)
    except GPTCoreError:  # the stage that reads it tells
        return None


def _check_memory(need: Need) -> None:
    total = memory()[0]
    if total and (1 - OFF_BY) * need.peak > total:
        raise ParameterError(
            f"{need.section}: needs about {in_bytes(need.peak)} of memory, and {in_bytes(total)} is all there is here; "
            f"lower {need.lever} in params.yaml ({ANYWAY}=1 tries it anyway)"
        )


def _check_disk(need: Need, root: Path) -> None:
    states = project.scratch() / need.section
    written = sum(map(_size, states.glob("*/step-*/*")))
    free = shutil.disk_usage(root).free
    if need.disk - written > free:
        raise DiskError(
            f"{need.section}: will write at least {in_bytes(need.disk - written)} into {root / 'data'}, and "
            f"{in_bytes(free)} are free; make space, or lower {need.size} in params.yaml ({ANYWAY}=1 tries it anyway)"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # a training that still runs prunes its states
        return 0


def _tuning(section: str, cfg: FinetuneClassifyConfig, model: GPTConfig, smaller: str, size: str) -> Need:
    seen = replace(model, context_length=min(model.context_length, cfg.max_tokens))
    trained = (
        None if cfg.adapter.trains_all else Trained(cfg.adapter.trained(seen), cfg.adapter.blocks_of(seen.n_layer))
    )
    others = f"{section}.max_tokens, {smaller}"
    return _need(section, cfg, seen, ("batch_documents", cfg.batch_documents), others, size, trained)


def _need(
    section: str,
    cfg: TrainConfig,
    config: GPTConfig,
    batch: tuple[str, int],
    others: str,
    size: str,
    trained: Trained | None = None,
) -> Need:
    rows_field, rows = batch
    widths = {"float32": (4,), "bfloat16": (2,)}.get(cfg.dtype, (2, 4))  # auto: whichever takes less
    kinds = (memory_parts(config, rows, cfg.optimizer, n, trained) for n in widths)
    parts = min(kinds, key=lambda each: sum(each.values()))
    return Need(
        section,
        parameters(config),
        parts,
        2 * state_bytes(config, cfg.optimizer, trained) + 4 * parameters(config),
        flops_per_token(config) * rows * config.context_length * cfg.accumulation_steps * cfg.max_steps,
        f"{section}.{rows_field}" if rows > 1 else "",
        others,
        size,
    )


def _of(sections: Sections, kind: type[Kind]) -> tuple[str, Kind] | None:
    return next(((name, each) for name, each in sections.items() if isinstance(each, kind)), None)


def _outs(section: str, root: Path) -> list[str]:
    """What the stage of this name writes."""
    return [str(out) for out in dvc_files.wiring(root).get(section, {}).get("outs", [])]


def main(section: str) -> int:
    """Before the stage of this name: says what is wrong and returns the exit code; other sections are their stages'."""
    try:
        sections = params.check_all()
    except ParameterError:
        return 0
    try:
        check(sections, project.root(), only=section)
    except GPTCoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

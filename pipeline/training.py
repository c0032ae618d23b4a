"""One training under a stage: resumed where it was killed, evaluated, saved, recorded.

DVC deletes a stage's outs before it runs the stage again, so the training states live outside them, in
``data/.scratch/<stage>/<fingerprint>/step-…``.  The fingerprint covers the parameters, the content of the
inputs, the code, the library versions and the machine class: a state is only ever continued by a run that
would have reached it itself, bit for bit.  A lock on the directory keeps a second process out, such as the
orphan of a killed orchestrator.

SIGINT and SIGTERM end the run after the current step with a saved state.  The last state stays until
another configuration of the stage has finished, so that a crash between the stage's end and DVC's commit
costs no training.
"""

import csv
import fcntl
import io
import math
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from gptcore import checkpoint
from gptcore.artifact import canonical_json, sha256_text, write_atomically
from gptcore.errors import BusyError, GPTCoreError
from gptcore.optim import build_optimizers
from gptcore.runtime import machine_class, settings
from gptcore.train import Loss, Step, TrainConfig, train
from pipeline import environment, provenance
from pipeline.code import code_hash
from pipeline.progress import progress
from pipeline.tracking import Tracker

FINISHED = "finished"
ALWAYS = ("step", "loss", "learning_rate", "grad_norm")
"""What every step has; the columns of a curve begin with them."""


class InterruptedTraining(GPTCoreError):
    """A signal ended the training after a saved state."""

    exit_code = 130


@dataclass(frozen=True)
class Cadence:
    """How often a training looks up from its work."""

    eval_every: int
    """Steps between evaluations on validation data."""
    save_every: int
    """Steps between saved states."""


@dataclass(frozen=True)
class Trained:
    """What ``run`` leaves behind besides the trained model."""

    curve: list[dict[str, float]]
    """A row a step: step, loss, learning_rate, grad_norm, and what evaluation measured."""

    def last(self, key: str) -> float:
        """The latest measured value of ``key``."""
        return next((row[key] for row in reversed(self.curve) if key in row), math.nan)

    def mean_loss(self, steps: int = 50) -> float:
        """Mean training loss of the last ``steps`` steps."""
        tail = [row["loss"] for row in self.curve[-steps:]]
        return sum(tail) / len(tail)


def run(
    stage: str,
    model: torch.nn.Module,
    batches_from: Callable[[int], Iterable[Any]],
    config: TrainConfig,
    cadence: Cadence,
    *,
    loss: Loss,
    evaluate: Callable[[], dict[str, float]],
    identity: Mapping[str, Any],
    tracker: Tracker,
    tokens_per_step: int = 0,
) -> Trained:
    """Train ``model`` in place to ``config.max_steps``, going on from the newest saved state of this identity.

    ``batches_from(step)`` yields the batches from that step on; ``evaluate()`` returns measurements by name.
    """
    with _scratch(stage, identity) as scratch, _saving_on_signals() as interrupted:
        optimizers = build_optimizers(model, config)
        start, curve = 0, []
        if (state := checkpoint.latest(scratch)) is not None:
            start, facts = checkpoint.load(state, model, optimizers)
            curve = facts["curve"]
            print(f"{stage}: going on from step {start} of {config.max_steps}", flush=True)
        clock = _Clock(start)
        with progress(stage, config.max_steps, start) as bar:
            steps = train(model, batches_from(start), config, loss=loss, optimizers=optimizers, start_step=start)
            for step in steps:
                row = _row(step)
                last = step.index == config.max_steps
                if last or step.index % cadence.eval_every == 0:
                    row |= evaluate()
                curve.append(row)
                tracker.log({k: v for k, v in row.items() if k != "step"}, step.index)
                bar.set_postfix_str(_summary(step, row, tokens_per_step), refresh=False)
                bar.update()
                stopping = interrupted() and not last  # asked once: a signal may come between two looks
                if last or stopping or step.index % cadence.save_every == 0:
                    checkpoint.save(scratch, model, optimizers, step.index, {"curve": curve})
                    checkpoint.prune(scratch, keep=2)
                if stopping:
                    raise InterruptedTraining(f"{stage}: stopped after step {step.index}; run it again to go on")
        clock.note(config.max_steps, tokens_per_step)
        _finish(scratch)
    return Trained(curve)


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """The rows as CSV; an empty cell where nothing was measured."""
    measured = {key for row in curve for key in row} - set(ALWAYS)
    columns = [*ALWAYS, *sorted(measured)]  # not in the order of a row, which a resumed run reads from JSON
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "step": int(row["step"])} for row in curve)
    write_atomically(path, text.getvalue().encode())


def _row(step: Step) -> dict[str, float]:
    return {"step": step.index, "loss": step.loss, "learning_rate": step.learning_rate, "grad_norm": step.grad_norm}


def _summary(step: Step, row: Mapping[str, float], tokens_per_step: int) -> str:
    speed = f"{tokens_per_step / step.seconds:,.0f} tokens/s, " if tokens_per_step else ""
    measured = "".join(f", {key} {row[key]:.3f}" for key in row if key.startswith("val_"))
    return f"{speed}loss {step.loss:.3f} nats{measured}"


class _Clock:
    """Times the part of a training that this process did; goes to the provenance record only."""

    def __init__(self, start_step: int) -> None:
        self.start_step, self.started = start_step, time.perf_counter()

    def note(self, steps: int, tokens_per_step: int) -> None:
        seconds = time.perf_counter() - self.started
        provenance.note(
            machine_class=machine_class(),
            **settings(),
            resumed_from_step=self.start_step,
            training_seconds=round(seconds, 2),
            tokens_per_second=round((steps - self.start_step) * tokens_per_step / max(seconds, 1e-9)),
        )


@contextmanager
def _scratch(stage: str, identity: Mapping[str, Any]) -> Iterator[Path]:
    """The locked directory of this very training."""
    everything = {**identity, "code": code_hash(f"pipeline.stages.{stage}"), "machine_class": machine_class()}
    directory = environment.scratch() / stage / sha256_text(canonical_json(everything))[:16]
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise BusyError(
                f"{stage}: process {lock.read().strip() or '?'} is doing this very training; "
                "wait for it, or end it and run the command again"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield directory


def _finish(scratch: Path) -> None:
    """Keep the last state of this training, and drop those of other finished ones.

    Interrupted trainings of other configurations stay: somebody may come back to them.
    """
    checkpoint.prune(scratch, keep=1)
    (scratch / FINISHED).touch()
    for other in scratch.parent.iterdir():
        if other != scratch and (other / FINISHED).exists():
            shutil.rmtree(other, ignore_errors=True)


@contextmanager
def _saving_on_signals() -> Iterator[Callable[[], bool]]:
    """While inside, SIGINT and SIGTERM only set a flag, which the loop reads after each step."""
    seen: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        seen.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

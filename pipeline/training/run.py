"""One training under a stage: resumed where it was killed, evaluated, saved, recorded.

SIGINT and SIGTERM end the run after the current step with a saved state (`pipeline/resume/scratch.py` says where and
under which name, `saving.py` when else), and the same command again goes on from it.  A loss, gradient or weight that
is no finite number ends it before anything of it is saved (`nonfinite.py` says what then is told).
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from gptcore import checkpoint
from gptcore.errors import Interrupted
from gptcore.machine.identity import machine_class
from gptcore.objectives import Objective
from gptcore.optim import build_optimizers
from gptcore.runtime import has_fast_bfloat16, settings
from gptcore.train import Step, TrainConfig, train
from pipeline import project, signals
from pipeline.contract import provenance
from pipeline.resume import scratch
from pipeline.tracking.progress import keeping, progress
from pipeline.tracking.tracker import Tracker
from pipeline.training import nonfinite, trace
from pipeline.training.choice import Choice, Score
from pipeline.training.saving import Saver


@dataclass(frozen=True)
class Cadence:
    """How often a training looks up from its work."""

    eval_every: int
    """Steps between evaluations on validation data."""
    save_every: int
    """Steps between saved states; where these take long, some seconds do (`saving.py`)."""


@dataclass(frozen=True)
class Trained:
    """What ``run`` leaves behind besides the trained model."""

    curve: list[dict[str, float]]
    """A row a step: step, loss, learning_rate, grad_norm, the objective's facts, and what evaluation measured."""
    chosen: int
    """The step whose weights the model has: the last one, unless the best was asked for."""

    def last(self, key: str) -> float:
        """The latest measured value of ``key``."""
        return next((row[key] for row in reversed(self.curve) if key in row), math.nan)

    def mean_loss(self, steps: int = 50) -> float:
        """Mean training loss of the last ``steps`` steps."""
        tail = [row["loss"] for row in self.curve[-steps:]]
        return sum(tail) / len(tail)


def run(
    module: str,
    model: torch.nn.Module,
    objective: Objective,
    config: TrainConfig,
    cadence: Cadence,
    *,
    evaluate: Callable[[], dict[str, float]],
    identity: Mapping[str, Any],
    tracker: Tracker,
    tokens_per_step: int = 0,
    name_of: nonfinite.NamesRow = str,
    best: Score | None = None,
) -> Trained:
    """Train ``model`` in place to ``config.max_steps``, going on from the newest saved state of this identity.

    ``module`` is the ``__name__`` of the stage, whose code is part of the identity.
    ``identity`` is all that decides the result but code, versions and machine class; ``evaluate()`` returns
    measurements by name; ``name_of`` tells what a window or row of the training data is called.  With ``best`` the
    model ends as it was at the evaluation whose measurements are the highest, the one before the first step included.
    """
    stage = module.rpartition(".")[2]
    _tell_of_slow_bfloat16(stage, config.dtype)
    traced_every = trace.interval()
    with scratch.directory(module, identity) as states, signals.noted() as seen:
        optimizers = build_optimizers(model, config)
        saver = Saver(states, model, optimizers, cadence.save_every)
        start, history = saver.resume()
        choice = Choice(states, model, best) if best else None
        if start:
            print(f"{stage}: going on from step {start} of {config.max_steps}", flush=True)
        else:
            history.trace.add(0, checkpoint.hashes(model, optimizers))
            if choice:
                nonfinite.check_row(before := {"step": 0, **evaluate()})
                choice.offer(0, before)
        clock = _Clock(start)
        if start < config.max_steps:
            _prepare(stage, objective, states / scratch.KEPT, config.max_steps * config.accumulation_steps, seen)
        with (
            progress(stage, config.max_steps, start) as bar,
            nonfinite.explained(stage, objective, name_of, lambda: saver.newest),
        ):
            batches = objective.batches(start * config.accumulation_steps)
            steps = train(model, batches, config, loss=objective.loss, optimizers=optimizers, start_step=start)
            for step in steps:
                row = _row(step)
                last = step.index == config.max_steps
                evaluated = last or step.index % cadence.eval_every == 0
                if evaluated:
                    row |= evaluate()
                nonfinite.check_row(row)
                if evaluated and choice:
                    choice.offer(step.index, row)
                history.add(row)
                if trace.due(step.index, config.max_steps, traced_every):
                    history.trace.add(step.index, checkpoint.hashes(model, optimizers))
                tracker.log({k: v for k, v in row.items() if k != "step"}, step.index)
                bar.set_postfix_str(_summary(step, row, tokens_per_step), refresh=False)
                bar.update()
                stopping = bool(seen) and not last  # asked once: a signal may come between two looks
                if last or stopping or saver.due(step.index):
                    saver.save(step.index, history)
                if stopping:
                    raise Interrupted(f"{stage}: stopped after step {step.index}; run it again to go on")
        clock.note(config.max_steps, tokens_per_step)
        provenance.keep_trace(bytes(history.trace))
        chosen = choice.take() if choice else config.max_steps
        checkpoint.prune(states, keep=1)
        scratch.finish(states)
    return Trained(history.curve, chosen)


def _tell_of_slow_bfloat16(stage: str, dtype: str) -> None:
    if dtype == "bfloat16" and not has_fast_bfloat16():
        print(
            f"warning: {stage}.dtype = bfloat16: this processor has no instructions for it and may take a hundred "
            "times as long as with float32, which `dtype: auto` takes here",
            file=sys.stderr,
            flush=True,
        )


def _prepare(stage: str, objective: Any, directory: Path, batches: int, seen: Sequence[int]) -> None:
    """Let an objective put onto disk what it keeps; a signal ends that after a piece, and the next run goes on."""
    steps = objective.prepare(directory, batches) if hasattr(objective, "prepare") else iter(())
    if (first := next(steps, None)) is None:
        return
    print(f"{stage}: keeps {first} in {project.relative(directory)}", flush=True)
    with keeping(stage, first.pieces, first.done) as bar:
        for now in chain([first], steps):
            bar.update(now.done - bar.n)
            if seen:
                raise Interrupted(f"{stage}: stopped after {now.done} of {now.pieces} pieces; run it again to go on")


def _row(step: Step) -> dict[str, float]:
    always = {"step": step.index, "loss": step.loss, "learning_rate": step.learning_rate, "grad_norm": step.grad_norm}
    return always | step.facts


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

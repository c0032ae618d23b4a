"""Saved states: by steps or by the clock, never too often, and a kill loses no more than is promised."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gptcore import checkpoint
from gptcore.artifact import sha256_file
from gptcore.errors import ParameterError
from gptcore.optim import OptimConfig, build_optimizers
from pipeline.training import saving
from pipeline.training.saving import History, Saver
from tests.pipeline.training import tiny


class Clock:
    """One that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def saver(tmp_path: Path, clock: Clock) -> Saver:
    model = torch.nn.Linear(3, 2)
    return Saver(tmp_path, model, build_optimizers(model, OptimConfig()), 100, clock)


def test_a_state_is_due_by_steps_or_by_the_clock(saver: Saver, clock: Clock) -> None:
    assert [step for step in range(1, 301) if saver.due(step)] == [100, 200, 300]
    clock.now += saving.SAVE_SECONDS - 0.1
    assert not saver.due(7)
    clock.now += 0.1
    assert saver.due(7)
    saver.save(7, History())
    assert not saver.due(8)
    assert saver.newest == saver.directory / "step-00000007"


def test_saving_by_the_clock_costs_five_percent_at_most(
    saver: Saver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint.save

    def slow(*arguments, **options):
        clock.now += 10.0
        return real(*arguments, **options)

    monkeypatch.setattr(checkpoint, "save", slow)
    saver.save(1, History())
    clock.now += 199.9
    assert not saver.due(2)
    clock.now += 0.2
    assert saver.due(2)


def test_what_was_measured_comes_back_with_the_state(saver: Saver) -> None:
    history = History()
    history.add({"step": 1, "loss": 0.1 + 0.2, "val_loss": 1e-17})
    history.add({"step": 2, "loss": 1 / 3})
    history.trace.add(2, {"weight": "ab" * 32})
    saver.save(2, history)
    history.add({"step": 3, "loss": 2.0})
    saver.save(3, history)
    step, restored = Saver(saver.directory, saver.model, saver.optimizers, 100).resume()
    assert (step, restored.curve, restored.files()) == (3, history.curve, history.files())
    restored.trace.add(4, {"weight": "cd" * 32})
    assert restored.files()[saving.TRACE].count(b"tensors") == 1


def test_without_a_state_there_is_nothing_to_go_on_from(saver: Saver) -> None:
    step, history = saver.resume()
    assert (step, history.curve, saver.newest) == (0, [], None)


WRONG = "GPTCORE_SAVE_SECONDS={}: expected a number of seconds of at least 0"


@pytest.mark.parametrize("given", ["soon", "-1", "nan"])
def test_a_wrong_number_of_seconds_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(saving.VARIABLE, given)
    with pytest.raises(ParameterError, match=f"^{WRONG.format(given)}$"):
        saving.seconds()


def test_a_wrong_number_of_seconds_is_one_message(project: Path) -> None:
    tiny.set_params(project)
    done = tiny.command(project, *tiny.PRETRAIN, GPTCORE_SAVE_SECONDS="soon")
    assert done.returncode == ParameterError.exit_code
    assert WRONG.format("soon") in done.stderr
    assert "Traceback" not in done.stderr


# A training whose clock goes on by a second a step, so a busy machine changes nothing; each step is told.
TICKING = """
import functools, sys, time
from pathlib import Path
from pipeline.tracking.tracker import NullTracker
from pipeline.training import run
from tests.pipeline.training import tiny

taken = 0

class Telling(NullTracker):
    def log(self, metrics, step):
        global taken
        taken += 1
        print("step", step, file=sys.stderr, flush=True)
        time.sleep(0.05)  # there is time to be killed in

run.Saver = functools.partial(run.Saver, clock=lambda: float(taken))
tiny.run(Path.cwd(), "killed", Telling(), max_steps=60, save_every=10**6, eval_every=10**6)
"""
SECONDS = 7


def test_a_killed_slow_training_loses_no_more_than_the_seconds_between_saves(project: Path) -> None:
    tiny.run(project, "whole", max_steps=60, save_every=10**6, eval_every=10**6)
    expected = hashes(project, "whole")
    states = project / "data" / ".scratch" / "pretrain"
    for state in states.glob("*/step-*"):  # of the training that is now done again under the same name
        assert checkpoint.latest(state.parent) == state
        subprocess.run(["rm", "-rf", str(state.parent)], check=True)
    steps, saved = random.Random(8), 0
    for _ in range(2):
        last = kill_after(project, saved + SECONDS + 1 + steps.randrange(SECONDS))
        (directory,) = states.iterdir()
        newest = checkpoint.latest(directory)
        assert newest is not None
        begun, saved = saved, int(newest.name.removeprefix("step-"))
        assert saved > begun
        assert last - saved <= SECONDS  # and the step that was under way
    tiny.run(project, "killed", max_steps=60, save_every=10**6, eval_every=10**6)
    assert hashes(project, "killed") == expected


def kill_after(project: Path, step: int) -> int:
    """Train until ``step`` is told, kill it, and return the last step that was told."""
    command = [sys.executable, "-c", TICKING]
    environment = {**os.environ, "PYTHONPATH": str(tiny.ROOT), "GPTCORE_SAVE_SECONDS": str(SECONDS)}
    last = 0
    with subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            last = told(line) or last
            if last >= step:
                process.send_signal(signal.SIGKILL)
    return last


def told(line: str) -> int | None:
    """The step, where the line tells one."""
    words = line.split()
    return int(words[1]) if len(words) == 2 and words[0] == "step" else None


def hashes(project: Path, out: str) -> dict[str, str]:
    files = [*(project / out).iterdir(), project / f"{out}.csv"]
    return {path.name.replace(out, ""): sha256_file(path) for path in files}


def test_how_often_it_is_saved_changes_no_byte(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.run(project, "seldom", save_every=100)
    monkeypatch.setenv(saving.VARIABLE, "0")
    monkeypatch.setattr(saving, "LEAST_RATIO", 0.0)
    real, saved = checkpoint.save, []

    def counted(*arguments, **options):
        saved.append(arguments[3])
        return real(*arguments, **options)

    monkeypatch.setattr(checkpoint, "save", counted)
    subprocess.run(["rm", "-rf", str(project / "data")], check=True)
    tiny.run(project, "often", save_every=100)
    assert saved == list(range(1, 13))
    weights = [sha256_file(project / out / "model.safetensors") for out in ("seldom", "often")]
    assert weights[0] == weights[1]

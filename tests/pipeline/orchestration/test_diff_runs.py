"""Two runs compared: real trainings, equal ones and ones that part at a known step and tensor."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.orchestration.diff_runs import compare
from tests.pipeline.training import tiny

pytestmark = pytest.mark.slow

TRACE_EVERY_STEP = {"GPTCORE_TRACE_STEPS": "1"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    tiny.prepare(root)
    return root


def new(prepared: Path, root: Path, **changes: object) -> Path:
    """A project that is ready to run."""
    shutil.copytree(prepared, root)
    tiny.set_params(root, **changes)
    return root


def ran(prepared: Path, root: Path, threads: int = 1, **changes: object) -> Path:
    """A project that has run its training."""
    new(prepared, root, **changes)
    done = tiny.command(root, *tiny.PRETRAIN, GPTCORE_TRACKING="off", GPTCORE_THREADS=str(threads), **TRACE_EVERY_STEP)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def a(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(prepared, tmp_path_factory.mktemp("a") / "project")


def test_equal_runs_are_equal_however_they_were_reached(prepared: Path, a: Path, tmp_path: Path) -> None:
    """One of them killed after its first saved state, and saved at other steps."""
    b = new(prepared, tmp_path / "b", save_every=3)
    kill = (
        "import os, signal, gptcore.checkpoint as c; real = c.save\n"
        "def save(*a, **k):\n    real(*a, **k); os.kill(os.getpid(), signal.SIGKILL)\n"
        f"c.save = save\nimport sys; sys.argv = ['pipeline', *{list(tiny.PRETRAIN)}]\n"
        "from pipeline.__main__ import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(tiny.ROOT), "GPTCORE_THREADS": "1", "GPTCORE_TRACKING": "off"}
    killed = subprocess.run(
        [sys.executable, "-c", kill], cwd=b, env=environment | TRACE_EVERY_STEP, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = tiny.command(b, *tiny.PRETRAIN, GPTCORE_TRACKING="off", **TRACE_EVERY_STEP)
    assert done.returncode == 0, done.stderr
    assert "going on from step 3" in done.stderr
    traces = [root / "data/.provenance/traces/pretrain.jsonl" for root in (a, b)]
    assert traces[0].read_bytes() == traces[1].read_bytes()
    told = tiny.command(tmp_path, "diff-runs", str(a), str(b))
    assert told.returncode == 0, told.stdout
    assert "Equal: 1 stages, 1 of them trainings whose states were compared." in told.stdout
    assert "pretrain: the same results, although the recipes differ\n  params: pretrain.save_every 4 in A, 3 in B" in (
        told.stdout
    )


def test_another_learning_rate_is_seen_at_the_first_step_and_told(prepared: Path, a: Path, tmp_path: Path) -> None:
    b = ran(prepared, tmp_path / "b", learning_rate=0.02)
    told = tiny.command(tmp_path, "diff-runs", str(a), str(b / "data" / ".provenance"))
    assert told.returncode == 1, told.stderr
    assert (
        "pretrain: the states first differ at step 1, equal at step 0: first in token_embedding.weight" in told.stdout
    )
    assert "\n  params: pretrain.learning_rate 0.01 in A, 0.02 in B\n" in told.stdout
    assert "inputs:" not in told.stdout
    assert told.stdout.endswith("Different: pretrain (of 1 stages).\n")


def test_a_schedule_that_parts_late_is_seen_late(prepared: Path, tmp_path: Path) -> None:
    """Warm-up is equal up to its end, whatever comes after it."""
    one = ran(prepared, tmp_path / "one", warmup_steps=6, schedule="constant")
    other = ran(prepared, tmp_path / "other", warmup_steps=6, schedule="linear", decay_fraction=0.25)
    found = compare(one, other)
    assert not found.equal
    assert "the states first differ at step 11, equal at step 10: first in token_embedding.weight" in found.text
    assert (
        "params: pretrain.decay_fraction 0.6 in A, 0.25 in B; pretrain.schedule constant in A, linear in B"
        in found.text
    )


NUDGE = """
import sys
import torch
from gptcore import train as t
from pipeline.__main__ import main
real = t.Step

def step(index, *rest):
    if index == 7:
        model.ln_f.bias.data[3] += 1e-6
    return real(index, *rest)

import gptcore.optim as o, pipeline.training.run as r
build = r.build_optimizers
def remember(built, config):
    global model
    model = built
    return build(built, config)
r.build_optimizers, t.Step = remember, step
sys.argv = ["pipeline", *{arguments}]
main()
"""


def test_one_nudged_weight_is_found_by_step_and_name(prepared: Path, a: Path, tmp_path: Path) -> None:
    """By a millionth, after the update of step 7: nothing known differs, so it isn't reproducible, and that is said."""
    b = new(prepared, tmp_path / "b")
    done = subprocess.run(
        [sys.executable, "-c", NUDGE.replace("{arguments}", repr(list(tiny.PRETRAIN)))],
        cwd=b,
        env={**os.environ, "PYTHONPATH": str(tiny.ROOT), "GPTCORE_THREADS": "1", "GPTCORE_TRACKING": "off"}
        | TRACE_EVERY_STEP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = compare(a, b)
    assert "the states first differ at step 7, equal at step 6: first in ln_f.bias, in all in 1 of " in found.text
    assert "params, inputs, code and machine class are the same: it is not reproducible" in found.text


def test_another_number_of_threads_is_another_machine_class(prepared: Path, a: Path, tmp_path: Path) -> None:
    b = ran(prepared, tmp_path / "b", threads=2)
    found = compare(a, b)
    assert "machine class: " in found.text  # of so small a model the bits may be equal or not


# --- what is wrong with the question, or with the records ------------------------------------------------


def test_wrong_arguments_are_one_message(a: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((), "expected two folders, A and B, found 0"),
        ((str(a),), "found 1"),
        ((str(a), str(a), str(a)), "found 3"),
        ((str(a), str(tmp_path / "nowhere")), "nowhere: expected the folder of a project that has run"),
        ((str(tmp_path), str(a)), "with records in data/.provenance"),
    ):
        told = tiny.command(tmp_path, "diff-runs", *arguments)
        assert told.returncode == 64, told.stderr
        assert words in told.stderr
        assert "Traceback" not in told.stderr


@pytest.fixture
def damaged(a: Path, tmp_path: Path) -> Path:
    shutil.copytree(a / "data" / ".provenance", tmp_path / "records")
    return tmp_path / "records"


@pytest.mark.parametrize("name", ["traces/pretrain.jsonl", "pretrain.json"])
def test_a_damaged_record_is_named(a: Path, damaged: Path, tmp_path: Path, name: str) -> None:
    path = damaged / name
    path.write_bytes(b"\xff" + path.read_bytes())
    told = tiny.command(tmp_path, "diff-runs", str(a), str(damaged))
    assert told.returncode == 65
    assert str(path) in told.stderr
    assert "run pretrain again" in told.stderr


def test_a_missing_trace_is_named(a: Path, damaged: Path, tmp_path: Path) -> None:
    (damaged / "traces" / "pretrain.jsonl").unlink()
    told = tiny.command(tmp_path, "diff-runs", str(damaged), str(a))
    assert told.returncode == 65
    assert "pretrain.jsonl: can't be read (No such file or directory); run pretrain again" in told.stderr


def test_a_stage_that_only_one_has_run_is_a_difference(a: Path, damaged: Path) -> None:
    record = json.loads((damaged / "pretrain.json").read_text())
    del record["trace"]
    (damaged / "windows.json").write_text(json.dumps(record | {"stage": "windows", "started": "2020"}))
    found = compare(damaged, a)
    assert not found.equal
    assert "windows: only A has run it" in found.text


def test_a_record_that_is_not_of_the_files_is_told(prepared: Path, a: Path, tmp_path: Path) -> None:
    shutil.copytree(a / "data", tmp_path / "b" / "data")
    metrics = tmp_path / "b/data/metrics/pretrain.json"
    metrics.write_text(metrics.read_text().replace('"steps": 12', '"steps": 13'))
    found = compare(a, tmp_path / "b")
    assert found.equal
    assert f"the record of B is of another run than {metrics}; run it again with --force" in found.text

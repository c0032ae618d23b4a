"""A real training that outlives whoever started it: the next run waits for it and never writes beside it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from gptcore.artifact import sha256_file
from pipeline.orchestration.dvc_program import COMMAND
from tests.pipeline.training import tiny

pytestmark = pytest.mark.slow

STEPS = 60
WAYS = {
    "dvc": [*COMMAND, "repro"],
    "runner": [sys.executable, "-m", "pipeline", "repro", "pretrain"],
}


@pytest.fixture
def graph(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The training as the one stage of a project under git and DVC."""
    monkeypatch.delenv("DVC_ROOT")
    monkeypatch.setenv("PYTHONPATH", str(tiny.ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    tiny.set_params(project, max_steps=STEPS, save_every=5)
    stage = {
        "cmd": " ".join(["python -m pipeline", *tiny.PRETRAIN]),
        "deps": ["windows", "tokenizer"],
        "params": ["pretrain"],
        "outs": ["model", "model.csv"],
    }
    YAML().dump({"stages": {"pretrain": stage}}, project / "dvc.yaml")
    for command in (["git", "init", "-q"], [*COMMAND, "init", "-q"]):
        subprocess.run(command, cwd=project, check=True, capture_output=True)
    return project


def trainings(root: Path) -> list[psutil.Process]:
    """The processes that are the stage itself, not the shell before it."""
    found = []
    for process in psutil.process_iter():
        try:
            here = Path(process.cwd()) == root and process.status() != psutil.STATUS_ZOMBIE
            if here and process.cmdline()[1:4] == ["-m", "pipeline", "pretrain"]:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def orphaned(root: Path, command: list[str]) -> psutil.Process:
    """The training of a run that is killed alone after a saved state; stopped, so that it can't end too soon."""
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        wait_for_a_state(root)
        (training,) = trainings(root)
        training.suspend()
        killed.kill()
    return training


def wait_for_a_state(root: Path) -> None:
    until = time.monotonic() + 120
    while not list(root.glob("data/.scratch/pretrain/*/step-*/manifest.json")):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("first", "second"),
    [("dvc", "dvc"), ("runner", "runner"), ("dvc", "runner")],
)
def test_an_orphaned_training_is_waited_for_and_nothing_is_trained_twice(
    graph: Path, tmp_path: Path, first: str, second: str
) -> None:
    orphan = orphaned(graph, WAYS[first])
    with subprocess.Popen(
        WAYS[second], cwd=graph, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith("waiting for another"):
                orphan.resume()
            if "going on from step" in line:
                assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert process.returncode == 0, printed
    waited = f"process {orphan.pid} (python -m pipeline pretrain --windows windows"
    assert waited in printed
    assert f"to stop it: kill -INT {orphan.pid}; its newest saved state is of step " in printed
    if (first, second) == ("runner", "runner"):  # its DVC has recorded what it did
        assert "waiting for another `make repro` to end: process" in printed
        assert "going on from step" not in printed
    else:
        assert f"going on from step {STEPS} of {STEPS}" in printed
    undisturbed = tmp_path / "undisturbed"
    subprocess.run(["cp", "-r", str(graph), str(undisturbed)], check=True)
    subprocess.run(["rm", "-rf", "data/.scratch", "model", "model.csv"], cwd=undisturbed, check=True)
    done = tiny.command(undisturbed, *tiny.PRETRAIN)
    assert done.returncode == 0, done.stderr
    for path in ("model/model.safetensors", "model.csv"):
        assert sha256_file(graph / path) == sha256_file(undisturbed / path)


def test_a_bare_dvc_beside_the_dvc_of_a_killed_runner_is_refused_by_dvc(graph: Path) -> None:
    """It doesn't wait; but it doesn't write either."""
    orphan = orphaned(graph, WAYS["runner"])
    refused = subprocess.run(WAYS["dvc"], cwd=graph, capture_output=True, text=True, check=False)
    assert refused.returncode == 255
    assert "is busy, it is being blocked by" in refused.stderr
    assert trainings(graph) == [orphan]
    orphan.resume()
    again = subprocess.run(WAYS["runner"], cwd=graph, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "didn't change, skipping" in again.stdout + again.stderr


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_runner_alone_saves_the_training(graph: Path, sign: signal.Signals) -> None:
    steps = 400  # it must not end by itself within the two seconds that a Ctrl-C is given
    tiny.set_params(graph, max_steps=steps, save_every=1)
    process = subprocess.Popen(WAYS["runner"], cwd=graph, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for_a_state(graph)
    process.send_signal(sign)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "stopping: waiting for the stage to save its state" in printed
    assert "pretrain: stopped after step " in printed
    assert trainings(graph) == []
    step = int(printed.split("pretrain: stopped after step ")[1].split(";")[0])
    assert list(graph.glob(f"data/.scratch/pretrain/*/step-{step:08d}/manifest.json"))
    again = subprocess.run(WAYS["runner"], cwd=graph, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"going on from step {step} of {steps}" in again.stdout + again.stderr

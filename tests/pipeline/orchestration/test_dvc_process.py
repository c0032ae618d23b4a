"""Stages through DVC: what was done is told, what fails says why, what is stopped is gone."""

import json
import logging
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from pipeline.orchestration.dvc_process import Driver, Interrupted, Outcome, StageFailed

LOG = logging.getLogger("toy")


def drive(toy, stage, **options):
    return Driver().run(stage, LOG, **options)


def test_executed_then_unchanged_then_cached(toy):
    """These three are read from DVC's words: a new version that words them otherwise fails here."""
    assert drive(toy, "seed") is Outcome.EXECUTED
    assert drive(toy, "seed") is Outcome.UNCHANGED
    toy.knobs("seed", value=1)
    assert drive(toy, "seed") is Outcome.EXECUTED
    toy.knobs("seed", value=0)
    assert drive(toy, "seed") is Outcome.CACHED
    assert (toy.root / "seed.txt").read_text() == "seed 0\n"
    assert drive(toy, "seed", force=True) is Outcome.EXECUTED
    assert toy.ran() == ["seed"] * 3


def test_a_stages_lines_are_passed_on(toy, caplog):
    with caplog.at_level(logging.INFO, "toy"):
        drive(toy, "seed")
    assert "seed says hello" in caplog.messages


def test_a_failure_carries_the_stages_words_and_exit_code(toy):
    toy.knobs("seed", exit=65)
    with pytest.raises(StageFailed) as failed:
        drive(toy, "seed")
    assert str(failed.value) == "seed: seed says hello\nseed: this is what went wrong"
    assert failed.value.exit_code == 65


def test_a_failure_of_dvc_carries_its_words(toy):
    with pytest.raises(StageFailed, match=r"left: .*seed\.txt") as failed:
        drive(toy, "left")  # seed has not been made
    assert failed.value.exit_code == 1


def test_a_stage_over_its_time_is_stopped_whole(toy):
    toy.knobs("seed", seconds=60)
    began = time.monotonic()
    with pytest.raises(StageFailed, match="timeout_seconds: 2"):
        drive(toy, "seed", timeout_seconds=2)
    assert time.monotonic() - began < 30
    assert "stage.py" not in running(toy)


def test_stop_ends_what_runs_and_refuses_what_waits(toy, wait_for):
    assert drive(toy, "seed") is Outcome.EXECUTED
    toy.knobs("train_a", seconds=60)
    driver = Driver()
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(driver.run, name, LOG, tags=["train"]) for name in ("train_a", "train_b")]
        wait_for(lambda: "train_a" in toy.ran() or "train_b" in toy.ran())
        driver.stop()
        errors = [run.exception() for run in runs]
    assert any(isinstance(error, Interrupted) for error in errors)
    assert "stage.py" not in running(toy)
    toy.knobs("train_a")
    assert drive(toy, "train_a") in (Outcome.EXECUTED, Outcome.UNCHANGED)  # no lock was left behind


def test_a_stage_deaf_to_interrupts_is_killed(toy, wait_for, monkeypatch):
    monkeypatch.setattr("pipeline.orchestration.processes.GRACE_SECONDS", 1.0)
    stage = toy.root / "stage.py"
    stage.write_text("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + stage.read_text())
    toy.knobs("seed", seconds=60)
    with pytest.raises(StageFailed):
        drive(toy, "seed", timeout_seconds=2)
    assert "stage.py" not in running(toy)


def test_one_training_at_a_time_and_others_beside_it(toy):
    drive(toy, "seed")
    for name in ("left", "train_a", "train_b"):
        toy.knobs(name, seconds=1.5)
    driver = Driver(parallel=2)
    stages = {"train_a": ["train"], "train_b": ["train"], "left": []}
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: driver.run(name, LOG, tags=stages[name]), stages))
    times = toy.times()
    assert not overlap(times["train_a"], times["train_b"])
    assert overlap(times["left"], times["train_a"]) or overlap(times["left"], times["train_b"])


def test_a_waiting_training_takes_no_place_from_others(toy):
    """With two places, a training that waits for its turn must not hold the second one."""
    drive(toy, "seed")
    for name in ("left", "train_a", "train_b"):
        toy.knobs(name, seconds=1)
    driver = Driver(parallel=2)
    order = ("train_a", "train_b", "left")
    with ThreadPoolExecutor() as pool:
        runs = []
        for name in order:
            runs.append(pool.submit(driver.run, name, LOG, tags=["train"] if "train" in name else []))
            time.sleep(0.3)
        for run in runs:
            run.result()
    assert toy.times()["left"]["start"] < max(toy.times()[name]["start"] for name in ("train_a", "train_b"))


def test_a_stage_that_another_process_runs_is_waited_for(toy, wait_for, caplog):
    toy.knobs("seed", seconds=3)
    orphan = toy.start(["dvc", "repro", "--single-item", "seed"])
    wait_for(lambda: toy.ran() == ["seed"])
    assert drive(toy, "seed") is Outcome.UNCHANGED
    assert toy.ran() == ["seed"]  # made once, by the other
    assert orphan.wait(10) == 0
    assert any("waiting" in message for message in caplog.messages)


def test_a_lock_left_by_a_killed_dvc_is_no_obstacle(toy, wait_for):
    toy.knobs("seed", seconds=2)
    killed = toy.start(["dvc", "repro", "--single-item", "seed"])
    wait_for(lambda: toy.ran() == ["seed"])
    killed.kill()
    killed.wait()
    wait_for(lambda: "stage.py" not in running(toy))
    assert drive(toy, "seed") is Outcome.EXECUTED


def test_a_blocker_that_ends_while_dvc_looks_is_no_obstacle_and_a_zombie_is_not_waited_for(toy, wait_for):
    with subprocess.Popen(["true"]) as zombie:
        wait_for(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
        table = toy.root / ".dvc" / "tmp" / "rwlock"
        table.parent.mkdir(exist_ok=True)
        blocked = {"write": {str(toy.root / "seed.txt"): {"pid": zombie.pid, "cmd": "dvc repro"}}, "read": {}}
        table.write_text(json.dumps(blocked))
        with pytest.raises(StageFailed, match=f"PID {zombie.pid}"):
            drive(toy, "seed")
        reaper = logging.Handler()
        reaper.emit = lambda record: zombie.wait() if "PID" in record.getMessage() else None
        log = logging.Logger("toy that reaps")
        log.addHandler(reaper)
        assert Driver().run("seed", log) is Outcome.EXECUTED


def running(toy) -> str:
    """The command lines of everything that runs in the toy project, beside this test."""
    mine = threading.main_thread().native_id
    lines = []
    for process in toy.processes():
        if process.pid != mine:
            lines.append(" ".join(process.cmdline()))
    return "\n".join(lines)


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return one["start"] < other["end"] and other["start"] < one["end"]

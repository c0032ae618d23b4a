"""Locks: a second process waits, says for whom, and a killed holder leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import holders, locks

HOLD = """
import sys, time
from pathlib import Path
from pipeline import locks
locks.SIGN_SECONDS = 0.3
progress = lambda command: f"{command[0]} is half-way"
with locks.held(Path(sys.argv[1]), what="the other one", progress=progress):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def start(path: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLD, str(path), str(seconds)]
    project = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_second_waits_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "stage.lock"
    with start(path, 60) as first:
        assert first.stdout
        assert first.stdout.readline() == "held\n"
        with start(path, 0) as second:
            assert second.stderr
            told = second.stderr.readline()
            assert told.startswith(f"waiting for the other one to end: process {first.pid} (python")
            assert f"; to stop it: kill -INT {first.pid}; {sys.executable} is half-way\n" in told
            told = second.stderr.readline()
            assert (
                told
                == f"still waiting for the other one (process {first.pid}) after 0 s; {sys.executable} is half-way\n"
            )
            assert second.poll() is None
            first.send_signal(signal.SIGKILL)
            assert second.wait(20) == 0


def test_without_waiting_the_second_gets_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with start(path, 60) as first:
        assert first.stdout
        assert first.stdout.readline() == "held\n"
        with locks.held(path, wait=False) as mine:
            assert mine is None
        assert locks.holder(path) == str(first.pid)
        first.kill()
    with locks.held(path, wait=False) as mine:
        assert mine is not None


def test_a_child_that_inherits_the_lock_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.held(path) as lock:
        assert lock is not None
        child = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    with locks.held(path, wait=False) as mine:
        assert mine is None
    child.kill()
    child.wait()
    with locks.held(path, wait=False) as mine:
        assert mine is not None


# --- orphans ---------------------------------------------------------------------------------------------

ORCHESTRATE = """
import subprocess, sys
from pathlib import Path
from pipeline import locks
with locks.held(Path(sys.argv[1])) as lock:
    subprocess.run(sys.argv[2:], pass_fds=[lock])
"""


def orphan(path: Path, *command: str) -> int:
    """A process that has inherited the lock from one that was killed."""
    project = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", ORCHESTRATE, str(path), *command], cwd=project) as parent:
        until = time.monotonic() + 30
        while not (children := holders.psutil.Process(parent.pid).children()):
            assert time.monotonic() < until
            time.sleep(0.05)
        parent.kill()
    return children[0].pid


def test_the_orphan_that_holds_the_lock_is_named_and_not_its_dead_parent(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    pid = orphan(path, "sleep", "60")
    assert path.read_text() != str(pid)
    with start(path, 0) as second:
        assert second.stderr
        told = second.stderr.readline()
        assert told.startswith(
            f"waiting for the other one to end: process {pid} (sleep 60); to stop it: kill -INT {pid}"
        )
        assert second.poll() is None
        os.kill(pid, signal.SIGINT)  # as it was told
        assert second.wait(20) == 0
    assert holders.find(path) is None


def test_behind_an_orchestrator_its_worker_is_named(tmp_path: Path) -> None:
    """DVC does nothing on a signal while a stage runs: the stage is whom to stop."""
    path = tmp_path / "lock"
    dvc = tmp_path / "dvc"
    dvc.symlink_to(sys.executable)
    run = "import subprocess; subprocess.run(['sh', '-c', 'sleep 50; true'])"
    pid = orphan(path, str(dvc), "-c", run)
    until = time.monotonic() + 30
    while (found := holders.find(path)) is None or found.work[0] != "sleep":
        assert time.monotonic() < until, found
        time.sleep(0.05)
    assert found.pid == pid != found.worker
    told = f"which is at process {found.worker} (sleep 50); to stop it: kill -INT {found.worker}"
    assert told in str(found)
    for end in (pid, found.worker):
        os.kill(end, signal.SIGKILL)


def test_a_waiter_is_no_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with start(path, 60) as first:
        assert first.stdout
        first.stdout.readline()
        with start(path, 0) as second:
            assert second.stderr
            second.stderr.readline()
            assert list(holders._holding(path)) == [first.pid]
            first.kill()


def test_without_proc_the_noted_process_is_believed_while_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    monkeypatch.setattr(holders, "PROC", tmp_path / "nowhere")
    with start(path, 60) as first:
        assert first.stdout
        first.stdout.readline()
        assert locks.holder(path) == str(first.pid)
        first.kill()
    assert locks.holder(path) == "?"
    path.write_text("no number")
    assert locks.holder(path) == "?"

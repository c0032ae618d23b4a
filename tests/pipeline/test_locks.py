"""Locks: a second process waits, says for whom, and a killed holder leaves nothing behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from pipeline import locks

HOLD = """
import sys, time
from pathlib import Path
from pipeline import locks
with locks.held(Path(sys.argv[1]), what="the other one"):
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
            assert second.stderr.readline() == f"waiting for the other one to end (process {first.pid})\n"
            time.sleep(0.5)
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

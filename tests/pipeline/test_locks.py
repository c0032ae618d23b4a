"""Locks: a second process waits, says for whom, and a killed holder leaves nothing behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.locks import mend_dvc_lock

HOLD = """
import sys, time
from pathlib import Path

import pytest

from pipeline.locks import mend_dvc_lock
from pipeline.locks import exclusive
with exclusive(Path(sys.argv[1]), "the other one"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_a_half_written_table_of_dvc_goes_and_a_whole_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    mend_dvc_lock()  # nothing there, nothing said
    table = tmp_path / ".dvc" / "tmp" / "rwlock"
    table.parent.mkdir(parents=True)
    table.write_text('{"a": {"write": {"pid": 1}}}')
    mend_dvc_lock()
    assert table.exists()
    assert capsys.readouterr().err == ""
    table.write_text("")
    mend_dvc_lock()
    assert not table.exists()
    assert "half-written" in capsys.readouterr().err


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

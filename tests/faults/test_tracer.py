"""The tracer on programs of which every call is known."""

import errno
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.faults import tracer
from tests.faults.tracer import AFTER, BEFORE, Call, trace

PROGRAM = """
import os, sys
os.mkdir("d")
with open("d/.draft", "wb", buffering=0) as file:
    file.write(b"new")
    os.fsync(file.fileno())
os.replace("d/.draft", "d/file")
open("/dev/null", "w").write("not here")
print("done")
"""
CALLS = [("mkdir", "d"), ("openat", "d/.draft"), ("write", "d/.draft"), ("fsync", "d/.draft"), ("rename", "d/file")]


@pytest.fixture(autouse=True)
def _permitted() -> None:
    if reason := tracer.missing():
        assert not os.environ.get("CI"), reason
        pytest.skip(f"NOT TESTED: {reason}")


def run(folder: Path, decide: object = lambda call: None, code: str = PROGRAM) -> tracer.Traced:
    command = [sys.executable, "-S", "-c", textwrap.dedent(code)]
    return trace(command, folder, decide, cwd=folder, limit_seconds=60)  # type: ignore[arg-type]


def test_each_call_that_changes_a_file_in_the_folder_is_seen(tmp_path: Path) -> None:
    traced = run(tmp_path)
    assert [(call.name, call.path) for call in traced.calls] == CALLS
    assert (traced.code, traced.output.strip()) == (0, "done")
    assert (tmp_path / "d/file").read_bytes() == b"new"


@pytest.mark.parametrize("number", range(len(CALLS)))
@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_a_kill_leaves_what_was_done_until_then(tmp_path: Path, number: int, when: str) -> None:
    traced = run(tmp_path, lambda call: when if call.number == number else None)
    assert traced.code == -signal.SIGKILL
    assert traced.struck is not None
    assert traced.struck.number == number
    done = number + (when == AFTER)
    assert len(traced.calls) == number + 1
    assert (tmp_path / "d").exists() == (done >= 1)
    assert (tmp_path / "d/.draft").exists() == (2 <= done <= 4)
    assert (tmp_path / "d/file").exists() == (done == 5)
    if 2 <= done <= 4:
        assert (tmp_path / "d/.draft").read_bytes() == (b"new" if done >= 3 else b"")


@pytest.mark.parametrize(("number", "reason"), [(1, errno.ENOSPC), (2, errno.ENOSPC), (3, errno.EIO), (4, errno.EROFS)])
def test_a_call_fails_with_the_reason_asked_for_and_is_not_done(tmp_path: Path, number: int, reason: int) -> None:
    traced = run(tmp_path, lambda call: reason if call.number == number else None)
    assert traced.code == 1
    assert os.strerror(reason) in traced.output
    assert not (tmp_path / "d/file").exists()
    assert (tmp_path / "d/.draft").exists() == (number > 1)


def test_children_and_threads_are_followed_and_do_not_outlive_it(tmp_path: Path) -> None:
    code = """
    import subprocess, threading
    from pathlib import Path
    subprocess.run(["/bin/sh", "-c", "echo a > child"], check=True)
    thread = threading.Thread(target=lambda: Path("thread").write_text("a"))
    thread.start(); thread.join()
    subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    print("end")
    """
    began = time.monotonic()
    traced = run(tmp_path, code=code)
    assert traced.output.strip() == "end"
    assert time.monotonic() - began < 30
    assert {call.path for call in traced.calls} == {"child", "thread"}


def test_a_program_that_does_not_end_is_ended(tmp_path: Path) -> None:
    traced = trace(["/bin/sleep", "60"], tmp_path, limit_seconds=0.5)
    assert (traced.late, traced.code) == (True, -signal.SIGKILL)


def test_signals_reach_the_program(tmp_path: Path) -> None:
    code = """
    import os, signal
    signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
    os.kill(os.getpid(), signal.SIGUSR1)
    """
    assert run(tmp_path, code=code).output.strip() == "heard"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("data/.tokens.tmp-4711/train-00000.parquet", "data/tokens/train-#.parquet"),
        ("data/checkpoints/.load_gpt2.tmp-12/.manifest.json.tmp-12", "data/checkpoints/load_gpt2/manifest.json"),
        ("data/.scratch/pretrain/1f00aa3b/.step-00000010.tmp-9/.tmpPntVUf", "data/.scratch/pretrain/#/step-#/#"),
        (".dvc/cache/files/md5/ab/91bb01", ".dvc/cache/files/md5/#/#"),
        (".dvc/tmp/exps/cache", ".dvc/tmp/exps/cache"),
    ],
)
def test_a_draft_counts_as_what_becomes_of_it(path: str, target: str) -> None:
    assert Call(3, "write", path).target == target

"""What a stage had found out is found once, comes back to the last bit, and is never half of it."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.resume.once import once
from tests.house import ROOT

FOUND: dict[str, Any] = {"z": [1, 0.1 + 0.2, -0.0, None, True], "a": {"é\n": 1e-310}, "n": 2**70}


def never() -> None:
    raise AssertionError("it was found already")


def test_what_was_found_is_found_once_and_comes_back_as_it_was(tmp_path: Path) -> None:
    first = once(tmp_path / "place", lambda: FOUND)
    again = once(tmp_path / "place", never)
    for found in (first, again):
        assert repr(found) == repr(FOUND)  # the order of keys, and the sign of a zero


def test_the_first_run_sees_what_a_later_one_will(tmp_path: Path) -> None:
    assert once(tmp_path / "place", lambda: {"pair": (1, 2), 3: "three"}) == {"pair": [1, 2], "3": "three"}


def test_what_is_no_plain_data_is_not_kept(tmp_path: Path) -> None:
    for unfit in (math.nan, {1, 2}, Path("x")):
        with pytest.raises((TypeError, ValueError)):
            once(tmp_path / "place", lambda unfit=unfit: unfit)
    assert list(tmp_path.iterdir()) == []


def test_what_is_damaged_is_found_again(tmp_path: Path) -> None:
    once(tmp_path / "place", lambda: FOUND)
    kept = tmp_path / "place" / "found.json"
    kept.write_bytes(kept.read_bytes()[:-1])
    assert once(tmp_path / "place", lambda: "anew") == "anew"
    assert once(tmp_path / "place", never) == "anew"


def test_killed_while_it_finds_it_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from pipeline.resume.once import once; once(pathlib.Path(sys.argv[1]), os.abort)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "place"], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []

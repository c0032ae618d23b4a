"""Kills of DVC between two of its system calls, on a project of two stages that cost nothing.

After the cut the same command must end, with the dvc.lock and the outs of an undisturbed run, and a stage that was
recorded before the cut must not be run again.  Where our own entry to DVC is there, that is what is cut; DVC's own
writes some of its files in place.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml.error import YAMLError

from pipeline.orchestration.dvc_files import recorded
from tests.faults import cutting
from tests.faults.campaign import Campaign
from tests.faults.cutting import Work
from tests.faults.journal import ROOT

OURS = "pipeline.orchestration.dvc_program"
WIRING = """
stages:
  one:
    cmd: echo one >> ran && cat given > one.txt
    deps: [given]
    outs: [one.txt]
  two:
    cmd: echo two >> ran && mkdir -p two && cat one.txt > two/a && cat one.txt > two/b
    deps: [one.txt]
    outs: [two]
"""
CONFIG = """
[core]
    no_scm = true
    analytics = false
    check_update = false
"""
OLD, NEW = "old\n", "new\n"


def command(folder: Path) -> Sequence[str]:
    return [sys.executable, "-m", OURS if importlib.util.find_spec(OURS) else "dvc", "repro"]


def _new(folder: Path) -> None:
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    )
    (folder / "dvc.yaml").write_text(WIRING)
    (folder / "given").write_text(NEW)
    (folder / "ran").write_text("")


def _over(folder: Path) -> None:
    """Both stages have run, with another input."""
    _new(folder)
    (folder / "given").write_text(OLD)
    done = _repro(folder)
    if done.returncode:
        raise RuntimeError(done.stderr)
    (folder / "given").write_text(NEW)
    (folder / "ran").write_text("")


def _left(folder: Path) -> str | None:
    """What ran until the cut, and what was recorded of it; it is held against what runs afterwards."""
    (folder.parent / "recorded").write_text("\n".join(_recorded_new(folder)))
    return None


def _recorded_new(folder: Path) -> list[str]:
    """The stages that dvc.lock has with the new input; none where it can't be read."""
    try:
        entries = recorded((folder / "dvc.lock").read_text())
    except (OSError, YAMLError, ValueError):
        return []
    new = hashlib.md5(NEW.encode()).hexdigest()
    return [stage for stage, entry in entries.items() if all(dep["md5"] == new for dep in entry["deps"])]


def _again(folder: Path) -> str | None:
    before = (folder / "ran").read_text().split()
    done = _repro(folder)
    if done.returncode:
        return f"the rerun ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}"
    once_more = (folder / "ran").read_text().split()[len(before) :]
    known = (folder.parent / "recorded").read_text().split()
    if twice := sorted(set(once_more) & set(known)):
        return f"recorded, and run again: {', '.join(twice)}"
    found = {name: (folder / name).read_text() for name in ("one.txt", "two/a", "two/b")}
    if set(found.values()) != {NEW}:
        return f"other outs: {found}"
    if sorted(_recorded_new(folder)) != ["one", "two"]:
        return f"another dvc.lock: {(folder / 'dvc.lock').read_text()}"
    done = _repro(folder)
    return None if "Running stage" not in done.stdout else "a third run ran a stage"


def _repro(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **cutting.surroundings(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command(folder), cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


WORKS = [Work("dvc-new", _new, command, _left, _again), Work("dvc-over", _over, command, _left, _again)]

CAMPAIGNS = [
    Campaign(
        "cuts-dvc",
        "DVC killed between two calls goes on by the same command, and runs nothing that it had recorded",
        200,
        3,
        lambda scene: cutting.trial(WORKS, scene),
        lambda shared: cutting.prepare(WORKS, shared),
        processes=True,
    )
]

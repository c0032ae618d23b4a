"""A disk that is full, or that can't be written, at each place at which a stage or a verb writes.

A place is what is written in the end: a file, or a directory.  The disk is full for one call, so that an error that is
passed over shows as a result that lacks something; it is read-only from one call on, as a file system is after a
fault.  Either way the command ends with 74 and one message, or it did not need what it could not write and ends
well; what was there before is intact, and the same command works as soon as the disk does.

``disk-routines`` does this at every call of the routines that replace files, in which all writers share their ways;
``disk`` once for every place, in one of the stages and verbs that write there: ``data/metrics/pretrain.json`` and
``data/metrics/windows.json`` are one place, for one line of code writes both.
"""

import errno
import json
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gptcore.errors import DiskError
from pipeline.orchestration.dvc_files import recorded
from tests.faults import cutting, tiny
from tests.faults.campaign import Campaign, Scene
from tests.faults.campaigns import cuts
from tests.faults.campaigns.kills import differences
from tests.faults.tiny import Tiny
from tests.faults.tracer import BEFORE, Call, Decision, Traced, trace

NEVER_FULL = {"unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "utimensat"}
"""Calls that need no space."""
WRITES = {"write", "pwrite64", "writev", "sendfile", "copy_file_range"}
VERBS = {
    "report": ["-m", "pipeline", "report"],
    "repro": ["-m", "pipeline", "repro", "--profile", "tiny", "--force", "download"],
}
OF_DVC = {"repro"}
"""What starts DVC, which has messages and exit codes of its own, and deletes a stage's outs before it runs it."""
MOST = 500
"""Faults at most, two a place; numbers above their own have nothing to do."""


@dataclass(frozen=True)
class Fault:
    """A call fails."""

    call: str
    target: str
    reason: int

    @property
    def place(self) -> tuple[str, str, int]:
        """The same in every stage that writes it by the same line."""
        return self.call, _stage().sub("STAGE", self.target), self.reason

    def __str__(self) -> str:
        return f"{errno.errorcode[self.reason]} at {self.call} {self.target}"

    def decider(self) -> Callable[[Call], Decision]:
        """The first such call fails; from a read-only disk's on, all do."""
        struck = False

        def decide(call: Call) -> Decision:
            nonlocal struck
            first = (call.name, call.target) == (self.call, self.target) and not struck
            struck = struck or first
            return self.reason if first or (struck and self.reason == errno.EROFS) else None

        return decide


def prepare(shared: Path) -> None:
    cutting.permitted()
    tiny.made()


def trial(scene: Scene) -> str | None:
    """One fault of each work, then the places that are left."""
    every = sorted(works())
    if scene.number < len(every):
        name = every[scene.number]
        return fail(scene.folder, name, faults(name)[0])
    rest, index = left(), scene.number - len(every)
    if len(rest) + len(every) > MOST:
        return f"more places than are tried: {len(rest)}"
    return fail(scene.folder, *rest[index]) if index < len(rest) else None


def fail(folder: Path, name: str, fault: Fault) -> str | None:
    run = fresh(folder)
    expected = tiny.made().results()
    try:
        traced = traced_run(run, works()[name], fault.decider())
        words = wrong(name, traced)
        if name not in OF_DVC:  # a read-only disk keeps drafts; the rerun must remove them
            words = words or differences(run, expected, drafts=fault.reason == errno.EROFS)
        if words is None:
            again = subprocess.run(
                works()[name], cwd=run.root, env=environment(run), capture_output=True, text=True, check=False
            )
            words = f"afterwards it ended with {again.returncode}: {again.stderr[-500:]}" if again.returncode else None
        words = words or differences(run, expected)
    finally:
        run.end()
    return f"{name}: {fault}: {words}" if words else None


def wrong(name: str, traced: Traced) -> str | None:
    """With the way in which the command ended."""
    told = traced.output[-600:]
    if traced.struck is None:
        return f"it did not come to this place: ended with {traced.code}: {told}"
    if traced.late:
        return "it did not end"
    if "Traceback" in traced.output:
        return f"a traceback, and exit code {traced.code}: {told}"
    if traced.code in (0, DiskError.exit_code) or (name in OF_DVC and traced.code > 0):
        return None
    return f"expected exit code {DiskError.exit_code}, found {traced.code}: {told}"


@cache
def works() -> dict[str, list[str]]:
    """What is tried: every stage as dvc.lock has its command, and the verbs that write."""
    entries = recorded((tiny.made().root / "dvc.lock").read_text())
    stages = {stage: shlex.split(entry["cmd"])[1:] for stage, entry in entries.items()}
    return {name: [sys.executable, *arguments] for name, arguments in (stages | VERBS).items()}


@cache
def _stage() -> re.Pattern[str]:
    """Matches a stage's name as files have it: one may begin as another does, or have two parts."""
    return re.compile("|".join(re.escape(name.replace("@", "-")) for name in sorted(works(), key=len, reverse=True)))


@cache
def faults(name: str) -> list[Fault]:
    """Two for each place of this work: the first call that needs space there, and the first of all."""
    with tempfile.TemporaryDirectory() as folder:
        run = fresh(Path(folder))
        traced = traced_run(run, works()[name], lambda call: None)
        run.end()
    if traced.code:
        raise RuntimeError(f"{name}: undisturbed it ended with {traced.code}: {traced.output[-1000:]}")
    calls: dict[str, list[str]] = {}
    for call in traced.calls:
        calls.setdefault(call.target, []).append(call.name)
    found = []
    for target, names in calls.items():
        needy = sorted(set(names) - NEVER_FULL, key=lambda name: (name not in WRITES, names.index(name)))
        found += [Fault(needy[0], target, errno.ENOSPC)] if needy else []
        found += [Fault(names[0], target, errno.EROFS)]
    random.Random(name).shuffle(found)  # so that the first trials are not all of the same few places
    return found


@cache
def left() -> list[tuple[str, Fault]]:
    """The places that no work's first fault is at, each in one work, these in turn."""
    every = {name: faults(name) for name in sorted(works())}
    seen = {found[0].place for found in every.values()}
    chosen = []
    for turn in range(1, max(map(len, every.values()))):
        for name, found in every.items():
            if turn < len(found) and found[turn].place not in seen:
                seen.add(found[turn].place)
                chosen.append((name, found[turn]))
    return chosen


def fresh(folder: Path) -> Tiny:
    """A copy with all results and without saved states, so that trainings train."""
    run = tiny.copied(folder)
    shutil.rmtree(run.root / "data" / ".scratch", ignore_errors=True)
    return run


def environment(run: Tiny) -> dict[str, str]:
    return {**run.environment, "PYTHONDONTWRITEBYTECODE": "1"}


def traced_run(run: Tiny, command: Sequence[str], decide: Callable[[Call], Decision]) -> Traced:
    return trace(command, run.root, decide, cwd=run.root, environment=environment(run), limit_seconds=300)


# --- the routines, call by call --------------------------------------------------------------------------

ROUTINES = [*cuts.FILES, *cuts.DIRECTORIES, *cuts.STATES]


def prepare_routines(shared: Path) -> None:
    cutting.prepare(ROUTINES, shared)


def trial_routine(scene: Scene) -> str | None:
    """A place that `cutting` found, with a full or a read-only disk in place of a kill."""
    places = json.loads((scene.shared / "places.json").read_text())
    name, number, when = places[scene.number % len(places)]
    work = next(work for work in ROUTINES if work.name == name)
    folder = cutting.copy(scene.shared / name, scene.folder / "work")
    reason = errno.ENOSPC if when == BEFORE else errno.EROFS

    def decide(call: Call) -> Decision:
        if reason == errno.ENOSPC and call.name in NEVER_FULL:
            return None
        return reason if call.number == number or (call.number > number and reason == errno.EROFS) else None

    traced = cutting.run(work, folder, decide)
    if traced.struck is None:
        return None  # a call that needs no space
    where = f"{name}: {errno.errorcode[reason]} at call {number} ({traced.struck.name} {traced.struck.path})"
    words = wrong(name, traced) or work.left(folder) or work.again(folder)
    return f"{where}: {words}" if words else None


CAMPAIGNS = [
    Campaign(
        "disk-routines",
        "a full or read-only disk at any call of a write is exit code 74, and the former file or artifact is whole",
        240,
        8,
        trial_routine,
        prepare_routines,
        processes=True,
    ),
    Campaign(
        "disk",
        "a full or read-only disk is one message and exit code 74, costs no result, and the same command works after",
        MOST,
        2,
        trial,
        prepare,
        processes=True,
    ),
]

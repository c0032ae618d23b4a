"""Cut a piece of work at each of its places, see what is left, and do it again.

A *place* is a call that changes a file, and whether the kill comes before or after it.  The trials of a campaign go
through all places of all its kinds of work in a drawn order, and then through them again.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import tracer
from tests.faults.campaign import NotTested, Scene
from tests.faults.journal import ROOT
from tests.faults.tracer import AFTER, BEFORE, Call, Decision


@dataclass(frozen=True)
class Work:
    """Something that is cut."""

    name: str
    former: Callable[[Path], None]
    """Makes in an empty folder what was there before."""
    command: Callable[[Path], Sequence[str]]
    """What is cut, in the folder."""
    left: Callable[[Path], str | None]
    """What is wrong with what the cut left; None: nothing."""
    again: Callable[[Path], str | None]
    """The same once more, to its end, and what is wrong then."""
    refusals: tuple[tuple[str, int], ...] = ()
    """Calls that this system does not have: name → errno with which they fail throughout."""


def permitted() -> None:
    """Raises ``NotTested`` where nothing can be traced."""
    if reason := tracer.missing():
        raise NotTested(reason)


def prepare(works: Sequence[Work], shared: Path) -> None:
    """Make each work's former state, and find its places by doing it once undisturbed."""
    permitted()
    places = []
    for work in works:
        (shared / work.name).mkdir()
        work.former(shared / work.name)
        whole = copy(shared / work.name, shared / f"{work.name}.whole")
        traced = run(work, whole, lambda call: None)
        if traced.code:
            raise RuntimeError(f"{work.name}: undisturbed it ended with {traced.code}: {traced.output}")
        refused = {name for name, _ in work.refusals}
        places += [(work.name, call.number, BEFORE) for call in traced.calls]
        places += [(work.name, call.number, AFTER) for call in traced.calls if call.name not in refused]
    random.Random("places").shuffle(places)
    (shared / "places.json").write_text(json.dumps(places))


def trial(works: Sequence[Work], scene: Scene) -> str | None:
    """Cut at the place of this trial's number."""
    places = json.loads((scene.shared / "places.json").read_text())
    name, number, when = places[scene.number % len(places)]
    work = next(work for work in works if work.name == name)
    folder = copy(scene.shared / name, scene.folder / "work")
    traced = run(work, folder, lambda call: when if call.number == number else None)
    if traced.code != -signal.SIGKILL:
        return f"{name}: was to be cut at call {number}, but ended with {traced.code}: {traced.output[-500:]}"
    where = f"{name}, {when} call {number} ({traced.calls[-1].name} {traced.calls[-1].path})"
    words = work.left(folder) or work.again(folder)
    return f"{where}: {words}" if words else None


def routine(name: str) -> Callable[[Path], Sequence[str]]:
    """The command of one of `routines`."""
    return lambda folder: [sys.executable, "-m", "tests.faults.routines", name, str(folder)]


def surroundings(folder: Path) -> dict[str, str]:
    """DVC's database lies in the folder, so that it is cut too; nothing else is written but by the work."""
    return {"PYTHONDONTWRITEBYTECODE": "1", "GPTCORE_TRACKING": "off", "DVC_SITE_CACHE_DIR": str(folder / "site")}


def litter(folder: Path, *expected: str) -> str | None:
    """Files below ``folder`` that nobody expects, such as a draft that stays for ever."""
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    strange = [name for name in found if not any(name == e or name.startswith(f"{e}/") for e in expected)]
    return f"left behind for ever: {', '.join(strange)}" if strange else None


def run(work: Work, folder: Path, decide: Callable[[Call], Decision]) -> tracer.Traced:
    """Do the work in ``folder``."""
    refused = dict(work.refusals)
    environment = {**os.environ, **surroundings(folder), "PYTHONPATH": str(ROOT)}
    return tracer.trace(
        work.command(folder),
        folder,
        lambda call: decide(call) or refused.get(call.name),
        cwd=folder,
        environment=environment,
        limit_seconds=120,
    )


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target, symlinks=True))

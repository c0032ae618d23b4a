"""``python -m pipeline clean [WHAT…]``: what takes space beside the results, what it costs to delete it, and doing so.

Nothing here is a result, and nothing is needed by git or by dvc.lock: of DVC's cache only what no commit, no
experiment and not the working folder names (DVC itself says which files these are).  Without WHAT nothing is deleted.

Whatever runs holds a lock on a file in the scratch; all of them are taken first, so that nothing is deleted under a
run and none starts meanwhile.  Lock files stay, for a process may wait at one, and so do records that are not
delivered yet.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from gptcore.errors import BusyError, GPTCoreError, ParameterError
from gptcore.machine.units import in_bytes
from pipeline import project
from pipeline.orchestration.busy import nothing_running
from pipeline.orchestration.dvc_graph import cache_folder
from pipeline.orchestration.dvc_program import ASIDE, COMMAND
from pipeline.orchestration.integrity.on_disk import remove
from pipeline.sources import pinned

SAVED_STATES = re.compile(r"[0-9a-f]{16}")
"""Names of the folders in which stages keep their unfinished work (`resume/scratch.py`)."""
DRAFT = re.compile(r"\..+\.(tmp|old)-(\d+)")
"""Names of drafts and of what they replace (`gptcore/artifact.py`), each with the process that writes it."""
UNUSED = ["gc", "--workspace", "--all-commits", "--all-experiments", "--force"]
REMOVING = re.compile(r"^Removing (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Shelf:
    """One kind of what can be deleted."""

    holds: str
    cost: str
    """What is lost."""
    paths: Callable[[Path], Iterable[Path]]
    """Project's folder → the files and folders to delete."""


SHELVES = {
    "states": Shelf(
        "saved states of trainings, what else stages found so far",
        "a killed one starts anew",
        lambda root: _states(root),
    ),
    "drafts": Shelf("what killed processes left half-written", "nothing", lambda root: _drafts(root)),
    "damaged": Shelf(
        "what was found damaged in DVC's cache and set aside", "nothing", lambda root: [cache_folder(root) / ASIDE]
    ),
    "downloads": Shelf(
        "sources as they were fetched",
        "they are fetched again when download runs",
        lambda root: _downloads(root),
    ),
    "dvc": Shelf(
        "in DVC's cache what no commit, experiment or working folder names",
        "going back to parameters that were only tried runs their stages again",
        lambda root: _unused(root),
    ),
    "mlflow": Shelf(
        "MLflow's record of runs",
        "its page forgets them; the numbers of record are in data/metrics",
        lambda root: [*root.glob("mlflow.db*"), root / "mlartifacts"],
    ),
    "prefect": Shelf("Prefect's record of flow runs", "its page forgets them", lambda root: [root / ".prefect"]),
}


def show(root: Path) -> str:
    """A line for each kind: how much it holds, what it is, what deleting it costs."""
    lines = []
    for name, shelf in SHELVES.items():
        try:
            size = in_bytes(sum(map(_size, shelf.paths(root))))
        except GPTCoreError as error:
            size, shelf = "?", Shelf(f"{shelf.holds} ({error})", shelf.cost, shelf.paths)
        lines.append(f"{name:10}{size:>10}  {shelf.holds}; costs: {shelf.cost}")
    return "\n".join([*lines, f"`python -m pipeline clean {' '.join(SHELVES)}` deletes all of it; name what you want."])


def free(root: Path, wanted: Sequence[str]) -> str:
    """Delete the kinds in ``wanted``; refuses while anything runs."""
    if unknown := [name for name in wanted if name not in SHELVES]:
        raise ParameterError(f"{unknown[0]}: nothing of this name to clean; expected one of {', '.join(SHELVES)}")
    lines = []
    scratch = project.scratch()
    with nothing_running([scratch / "ui" / "lock", scratch / "spool" / "feeder.lock"]):
        for name in dict.fromkeys(wanted):
            paths = list(SHELVES[name].paths(root))
            size = sum(map(_size, paths))
            if name == "dvc":
                _dvc(root, UNUSED)  # DVC's own files are DVC's to delete
            else:
                for path in paths:
                    remove(path)
            lines.append(f"{name}: {in_bytes(size)} freed")
    return "\n".join(lines)


def _states(root: Path) -> Iterator[Path]:
    scratch = root / "data" / ".scratch"
    return (path for path in scratch.glob("*/*") if path.is_dir() and SAVED_STATES.fullmatch(path.name))


def _downloads(root: Path) -> list[Path]:
    """The cache, where it is the project's own: another one may hold anything, and for others."""
    cache = pinned.default_cache().resolve()
    return [cache] if cache != root and cache.is_relative_to(root) else []


def _drafts(root: Path) -> Iterator[Path]:
    for folder, directories, files in os.walk(root / "data"):
        for name in [*directories, *files]:
            if (match := DRAFT.fullmatch(name)) and not psutil.pid_exists(int(match[2])):
                yield Path(folder, name)


def _unused(root: Path) -> list[Path]:
    return [Path(path) for path in REMOVING.findall(_dvc(root, [*UNUSED, "--dry"]))]


def _dvc(root: Path, arguments: Sequence[str]) -> str:
    environment = {**os.environ, **project.QUIET}
    command = [*COMMAND, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BusyError(f"DVC can't say what is unused: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout + done.stderr


def _size(path: Path) -> int:
    """Bytes on the disk of all below ``path``."""
    inner = path.rglob("*") if path.is_dir() and not path.is_symlink() else []
    return sum(each.lstat().st_blocks * 512 for each in [path, *inner] if os.path.lexists(each))

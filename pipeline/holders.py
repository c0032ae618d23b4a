"""Who holds a lock, and what it is doing: for whoever must wait, and may want to stop it.

A lock file names the process that took the lock, which need not be the one that holds it: killed alone, an orchestrator
leaves the lock to its DVC, which has inherited it.  Linux tells of each open file whether it holds a lock, so the true
holders are found by looking through ``/proc``: 10 ms for some hundred processes, and only when somebody waits.  Where
there is no such thing, or the holder is another user's, the process that the file names is believed while it lives.

Rejected: ``/proc/locks``.  It names the process that took the lock, dead or not.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc")
DVC = "pipeline.orchestration.dvc_program"
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh"})
SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock, and the one that does its work: itself, or the stage under an orchestrator."""

    pid: int
    command: Sequence[str]
    worker: int
    work: Sequence[str]
    """The command line of the worker."""

    def __str__(self) -> str:
        told = f"process {self.pid} ({_short(self.command)})"
        if self.worker != self.pid:
            told += f", which is at process {self.worker} ({_short(self.work)})"
        return f"{told}; to stop it: kill -INT {self.worker}"


def find(path: Path) -> Holder | None:
    """Who holds the lock at ``path``: of several the one that took it, if it lives."""
    pids = list(_holding(path)) or list(_noted(path))
    for pid in sorted(pids, key=lambda pid: pid not in _noted(path)):
        with suppress(psutil.Error, OSError):  # ended while it was looked at
            process = psutil.Process(pid)
            worker = _worker(process)
            return Holder(pid, process.cmdline(), worker.pid, worker.cmdline())
    return None


def _holding(path: Path) -> Iterator[int]:
    """The processes that have the file open and its lock with it; a waiter has only the first."""
    with suppress(OSError):
        file = os.stat(path)
        for entry in PROC.iterdir():
            if entry.name.isdecimal() and _holds(entry, file):
                yield int(entry.name)


def _holds(process: Path, file: os.stat_result) -> bool:
    with suppress(OSError):  # another user's process, or one that has just ended
        for descriptor in os.listdir(process / "fd"):
            with suppress(OSError):
                found = os.stat(process / "fd" / descriptor)
                if (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino):
                    told = (process / "fdinfo" / descriptor).read_text(encoding="ascii", errors="replace")
                    if any(line.startswith("lock:") and "FLOCK" in line for line in told.splitlines()):
                        return True
    return False


def _noted(path: Path) -> list[int]:
    """The process that the file names, if it is alive."""
    with suppress(OSError, psutil.Error, ValueError):
        pid = int(path.read_bytes().strip() or b"-")
        if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return [pid]
    return []


def _worker(process: psutil.Process) -> psutil.Process:
    """Down from an orchestrator, DVC or shell to what it waits for, which shares its session; a tracker does not."""
    while _waits_for_a_child(process.cmdline()):
        session = os.getsid(process.pid)
        children = [child for child in process.children() if os.getsid(child.pid) == session]
        if not children:
            break
        process = children[0]
    return process


def is_dvc(command: Sequence[str]) -> bool:
    """Whether a command line is DVC's: its own program, or the one that this project runs it by."""
    names = [Path(word).name for word in command[:4]]
    return DVC in names or "dvc" in names[:3]


def _waits_for_a_child(command: Sequence[str]) -> bool:
    names = [Path(word).name for word in command[:4]]
    is_shell = bool(names) and names[0] in SHELLS
    return is_shell or is_dvc(command) or names[1:] == ["-m", "pipeline", "repro"]


def _short(command: Sequence[str]) -> str:
    """On one line, and harmless to a terminal."""
    words = " ".join([Path(command[0]).name, *command[1:]] if command else ["ended"]).split()
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(words))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"

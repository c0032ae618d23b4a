"""One process at a time: locks on files, the one way in which this project keeps two processes apart.

The kernel drops a lock when the last process that holds its descriptor ends, however it ends; nothing is ever stale.
A waiter says whom it waits for and how to stop it (`holders.py`), and every half minute that it still does.  Killing
an orchestrator can leave its worker running: the same command again then waits for the worker instead of writing beside
it, for the worker has inherited the lock.

Rejected: the library filelock (it can neither hand its descriptor to a child nor lock a file that is itself the
record, as a spool is), and pid files (pids are reused).
"""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline import holders

POLL_SECONDS = 0.01
SIGN_SECONDS = 30.0
"""From one sign of life of a waiter to the next."""

Progress = Callable[[Sequence[str]], str]
"""Command line of a process → how far it is, in words; empty where that isn't known."""


@contextmanager
def held(
    path: Path, *, wait: bool = True, what: str = "", progress: Progress = lambda command: ""
) -> Iterator[int | None]:
    """Hold the lock at ``path``; yields its descriptor, which a child may inherit.

    Where another process holds it, waits; a waiter that was given ``what`` says that it waits for that, and now and
    then how far it is.  Without ``wait`` yields None instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not take(descriptor):
            if not wait:
                yield None
                return
            if what:
                _wait_aloud(descriptor, path, what, progress)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock at ``path`` with others who share it; keeps out who wants it alone, and waits for that one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _wait_aloud(descriptor: int, path: Path, what: str, progress: Progress) -> None:
    """Wait for the lock; say for whom, and at every sign of life for how long by now."""
    started, first = time.monotonic(), True
    while not take(descriptor, patience_seconds=0.0 if first else SIGN_SECONDS):
        found = holders.find(path)
        far = progress(found.work) if found else ""
        if first:
            told = f"waiting for {what} to end: {found or 'its process is not to be seen from here'}"
        else:
            at = f" (process {found.worker})" if found else ""
            told = f"still waiting for {what}{at} after {time.monotonic() - started:.0f} s"
        print(f"{told}; {far}" if far else told, file=sys.stderr, flush=True)
        first = False


def holder(path: Path) -> str:
    """The process that holds the lock at ``path``, or a question mark."""
    found = holders.find(path)
    return str(found.pid) if found else "?"


def take(descriptor: int, *, shared: bool = False, patience_seconds: float = 0.0) -> bool:
    """Lock an open file for as long as it is open; False where others hold it for longer than the patience."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)

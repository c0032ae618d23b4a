"""One process at a time: locks on files, the one way in which this project keeps two processes apart.

The kernel drops a lock when the last process that holds its descriptor ends, however it ends; nothing is ever stale.
A waiter says whom it waits for.  Killing an orchestrator can leave its worker running: the same command again
then waits for the worker instead of writing beside it, for the worker has inherited the lock.

Rejected: the library filelock (it can neither hand its descriptor to a child nor lock a file that is itself the
record, as a spool is), and pid files (pids are reused).
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path, *, wait: bool = True, what: str = "") -> Iterator[int | None]:
    """Hold the lock at ``path``; yields its descriptor, which a child may inherit.

    Where another process holds it, waits; a waiter that was given ``what`` says that it waits for that.  Without
    ``wait`` yields None instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not take(descriptor):
            if not wait:
                yield None
                return
            if what:
                print(f"waiting for {what} to end (process {holder(path)})", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def holder(path: Path) -> str:
    """The process that last took the lock at ``path``, or a question mark."""
    try:
        return path.read_text(errors="replace").strip() or "?"
    except OSError:
        return "?"


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
            time.sleep(0.01)

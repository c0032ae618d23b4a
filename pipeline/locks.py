"""One process at a time: waiting locks on files.

The kernel drops a lock when the last process that holds its descriptor ends, however it ends; nothing is ever stale.
A waiter says whom it waits for.  Killing an orchestrator can leave its worker running: the same command again
then waits for the worker instead of writing beside it.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[int]:
    """Hold the lock at ``path``, waiting for it if need be; yields its descriptor, which a child may inherit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "?"
            print(f"waiting for {what} to end (process {holder})", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)

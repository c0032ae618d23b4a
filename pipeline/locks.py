"""One process at a time: waiting locks on files.

The kernel drops a lock when the last process that holds its descriptor ends, however it ends; nothing is ever stale.
A waiter says whom it waits for.  Killing an orchestrator can leave its worker running: the same command again
then waits for the worker instead of writing beside it.
"""

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import environment


def mend_dvc_lock() -> None:
    """Delete DVC's table of path locks if a killed DVC left it half-written; DVC itself refuses to start then.

    It is rewritten in place, so for an instant a living DVC's table looks the same: only one that stays broken goes.
    """
    table = environment.root() / ".dvc" / "tmp" / "rwlock"
    for _ in range(5):
        try:
            json.loads(table.read_text(encoding="utf-8"))
            return
        except FileNotFoundError:
            return
        except ValueError:
            time.sleep(0.2)
    print(f"{table}: half-written by a killed run; deleted", file=sys.stderr)
    table.unlink(missing_ok=True)


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

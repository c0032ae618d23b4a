"""Whether anything of this project is at work: asked by whoever changes under a run what it reads or has written.

A plain run holds ``repro.lock``, a flow ``flow.lock`` (several flows share it, DVC keeps them apart), a stage the lock
of its name, by whomever it was started.  What waits for a lock holds it for moments, and the stages that it keeps
waiting need no other, so nobody waits in a circle.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gptcore.errors import BusyError
from pipeline import locks, project
from pipeline.tracking.watch import newest_state


def run_lock() -> Path:
    """Of ``make repro``: one at a time."""
    return project.scratch() / "repro.lock"


@contextmanager
def flow_at_work() -> Iterator[None]:
    """While inside, others see that a flow runs."""
    with locks.shared(_flow_lock()):
        yield


@contextmanager
def nothing_running(more: Iterable[Path] = (), *, wait: bool = False) -> Iterator[None]:
    """Hold every lock that a run, a flow or a stage would hold, and ``more``.

    Where one is held by another process waits for its end, or raises ``BusyError``.
    """
    stages = sorted((project.scratch() / "stages").glob("*.lock"))
    with ExitStack() as stack:
        for path in [run_lock(), _flow_lock(), *stages, *more]:
            told = f"what holds {project.relative(path)}"
            if stack.enter_context(locks.held(path, wait=wait, what=told, progress=newest_state)) is None:
                raise BusyError(
                    f"{project.relative(path)} is held by process {locks.holder(path)}: a run, a stage or the pages "
                    "are at work; wait for their end (the tracker's delivery ends some seconds after a run)"
                )
        yield


def _flow_lock() -> Path:
    return project.scratch() / "flow.lock"

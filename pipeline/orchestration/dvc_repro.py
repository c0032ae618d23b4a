"""The plain way of running the DAG: ``dvc repro``, with nothing between it and the terminal.

DVC inherits the terminal, so progress is drawn live and Ctrl-C reaches the stage, which saves its state; a SIGTERM to
this process alone is passed on.  It also inherits a lock: if only this process is killed (SIGKILL), DVC goes on, and
the next run waits for it.
"""

import os
from collections.abc import Sequence

from pipeline import locks
from pipeline.orchestration import processes
from pipeline.orchestration.busy import run_lock
from pipeline.orchestration.dvc_program import COMMAND
from pipeline.tracking.watch import newest_state


def plain(targets: Sequence[str] = (), force: bool = False) -> int:
    """Bring ``targets`` (default: everything) up to date; returns DVC's exit code."""
    command = [*COMMAND, "--wait-for-lock", "repro", *(["--force"] if force else []), *targets]
    with locks.held(run_lock(), what="another `make repro`", progress=newest_state) as lock:
        assert lock is not None
        return processes.foreground(command, env=dict(os.environ), pass_fds=[lock])

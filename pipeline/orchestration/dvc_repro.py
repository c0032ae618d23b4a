"""The plain way of running the DAG: ``dvc repro``, with nothing between it and the terminal.

DVC inherits the terminal, so progress is drawn live and Ctrl-C reaches the stage, which saves its state.  It
also inherits a lock: if only this process is killed, DVC goes on, and the next run waits for it.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from pipeline import locks, project
from pipeline.orchestration.dvc_program import COMMAND


def plain(targets: Sequence[str] = (), force: bool = False) -> int:
    """Bring ``targets`` (default: everything) up to date; returns DVC's exit code."""
    command = [*COMMAND, "--wait-for-lock", "repro", *(["--force"] if force else []), *targets]
    with locks.held(project.scratch() / "repro.lock", what="another `make repro`") as lock:
        assert lock is not None
        return _call(command, lock)


def _call(command: Sequence[str], lock: int) -> int:
    """Run to the end, even past a Ctrl-C: it has reached the stage too, which is saving."""
    with subprocess.Popen(command, env=dict(os.environ), pass_fds=[lock]) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                print("stopping: waiting for the stage to save its state", file=sys.stderr)

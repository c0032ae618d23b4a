"""``python -m pipeline repro``, which is all that ``make repro`` runs: ``dvc repro``, and what belongs round it.

Before: the profile is merged and all parameters are checked, so that nothing starts that can't end.  After:
the verdict says whether the bytes are those that the commit records, the tracker's spool is delivered, the
report is rendered, and the summary says where to look.  The work itself is DVC's; a plain ``dvc repro`` gives
the same files.

DVC inherits the terminal, so progress is drawn live and Ctrl-C reaches the stage, which saves its state.  It
also inherits a lock: if only this process is killed, DVC goes on, and the next run waits for it.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline import environment, params, profiles, tracking
from pipeline.driver import dvc_program
from pipeline.locks import exclusive, mend_dvc_lock
from pipeline.report import render
from pipeline.summary import summary
from pipeline.verdict import verdict

GO_BACK = "git checkout params.yaml dvc.lock data/metrics"


def repro(targets: Sequence[str] = (), profile: str = "") -> int:
    """Bring ``targets`` (default: everything) up to date; returns the exit code."""
    root = environment.root()
    environment.quiet()
    if profile:
        profiles.apply(profile)
    params.check_all()
    with exclusive(environment.scratch() / "repro.lock", "another `make repro`") as lock:
        with tracking.execution(targets) as record:
            if code := _call([dvc_program(), "--wait-for-lock", "repro", *targets], lock):
                record.fail(f"dvc ended with exit code {code}")
    if code:
        print(
            "\nStopped. The message of the stage that failed stands above; run the same command again to go on "
            "from where it was.",
            file=sys.stderr,
        )
    else:
        code = _tell(root, targets)
    _view("the tracker", tracking.deliver)
    if profile:
        print(f"\nparams.yaml now holds the profile {profile!r}; going back: {GO_BACK}")
    return code


def _tell(root: Path, targets: Sequence[str]) -> int:
    """The verdict, the report, the summary; of a part of the DAG there is no verdict."""
    found = None if targets else verdict(root)
    _view("the report", lambda: render(root, root / "data" / "report"))
    if found:
        print(f"\n{found.text}")
    _view("the summary", lambda: print(f"\n{summary(root)}"))
    return 0 if found is None or found.kept else 1


def _call(command: Sequence[str], lock: int) -> int:
    """Run to the end, even past a Ctrl-C: it has reached the stage too, which is saving."""
    mend_dvc_lock()
    with subprocess.Popen(command, env=dict(os.environ), pass_fds=[lock]) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                print("stopping: waiting for the stage to save its state", file=sys.stderr)


def _view(name: str, show: Callable[[], object]) -> None:
    """Views come after the work: whatever is wrong with one is said, and spoils nothing."""
    try:
        show()
    except Exception as error:
        print(f"{name} failed, the results are not affected: {error!r}", file=sys.stderr)

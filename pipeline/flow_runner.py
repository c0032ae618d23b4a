"""Run the flow and record it: the whole of `make flow` behind one function.

The work is DVC's, the order and the parallel branches are the flow's, the record is the tracker's.  Prefect
is imported here at the last moment and its failure to import is survived: a broken installation of the
orchestrator or of the tracker costs its pages, never a run.
"""

import os
import sys
from collections.abc import Callable, Sequence

from gptcore.errors import GPTCoreError
from pipeline import environment, processes, tracking, ui
from pipeline.driver import run_without_prefect
from pipeline.locks import mend_dvc_lock


def run(targets: Sequence[str] = (), force: bool = False, with_prefect: bool = True) -> int:
    """Bring ``targets`` (default: everything) up to date, then wait for the tracker; returns the exit code."""
    environment.quiet()
    mend_dvc_lock()
    with processes.interruptible(), tracking.execution(targets) as record:
        if code := _run(targets, force, with_prefect):
            record.fail(f"exit code {code}", "KILLED" if code == 130 else "FAILED")
    tracking.deliver()
    return code


def _run(targets: Sequence[str], force: bool, with_prefect: bool) -> int:
    try:
        return _flow(with_prefect)(targets, force)
    except GPTCoreError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _flow(with_prefect: bool) -> Callable[[Sequence[str], bool], int]:
    if with_prefect:
        if page := ui.address("prefect"):  # Prefect reads its settings once, when it is imported
            os.environ.setdefault("PREFECT_API_URL", f"{page}/api")
        try:
            from pipeline.flow import run_flow

            return run_flow
        except Exception as error:
            print(f"Prefect can't be imported ({error!r}); going on without it", file=sys.stderr)
    return run_without_prefect

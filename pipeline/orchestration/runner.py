"""A run of the DAG, whichever way it is driven: what belongs before it and after it.

Two ways drive it: ``plain`` is ``dvc repro`` (`dvc_repro.py`), ``flow`` a Prefect flow (`prefect_flow.py`).  The work
is DVC's in both, and gives the same files.  Before: the profile comes into force and all parameters are checked, so
that nothing starts that can't end.  After: the verdict says whether the bytes are those that the commit records, the
report is rendered, the summary says where to look, and the tracker's spool is delivered.

Prefect is imported at the last moment and its failure to import is survived: a broken installation of the
orchestrator or of the tracker costs its pages, never a run.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gptcore.errors import DataError, GPTCoreError
from pipeline import locks, project
from pipeline.contract import params, profiles
from pipeline.orchestration import dvc_graph, fits, pages, parameter_paths
from pipeline.orchestration.busy import flow_at_work, nothing_running
from pipeline.orchestration.dvc_files import mend_lock_table, switched_off
from pipeline.orchestration.dvc_graph import StageNode
from pipeline.orchestration.dvc_repro import plain
from pipeline.orchestration.same_bytes import Verdict, verdict
from pipeline.orchestration.writable import refuse_read_only
from pipeline.report.page import render
from pipeline.report.summary import summary
from pipeline.sources import own_text
from pipeline.tracking import runs

INTERRUPTED = 130

Way = Callable[[Sequence[str], bool], int]
"""(targets, force) → exit code."""


def prepare(profile: str) -> None:
    """Bring the profile into force, if one is named; check all parameters and what DVC would stumble over."""
    if profile:
        with nothing_running(wait=True):  # DVC records the parameters that stand there when a stage ends
            profiles.apply(profile)
    sections = params.check_all()
    parameter_paths.check(project.root())
    own_text.refuse_unreadable(own_text.FOLDER)
    refuse_read_only(project.root())
    fits.check(sections, project.root())


def run(way: Way, targets: Sequence[str] = (), force: bool = False) -> int:
    """Bring ``targets`` (default: everything) up to date; returns the exit code."""
    root = project.root()
    project.quiet()
    mend_lock_table()
    with runs.execution(targets) as record:
        if code := _drive(way, targets, force):
            record.fail(f"exit code {code}", "KILLED" if code == INTERRUPTED else "FAILED")
    code = _stopped(code) if code else _tell(root, targets)
    _view("the tracker", runs.deliver)
    _view("the profile", lambda: _tell_profile(root))
    return code


def flow(targets: Sequence[str] = (), force: bool = False) -> int:
    """As a Prefect flow, or plainly where Prefect can't be used."""
    if page := pages.address("prefect"):  # Prefect reads its settings once, when it is imported
        os.environ.setdefault("PREFECT_API_URL", f"{page}/api")
    try:
        from pipeline.orchestration.prefect_flow import run_flow
    except Exception as error:
        print(f"Prefect can't be imported ({error!r}); going on without it", file=sys.stderr)
        return plain(targets, force)
    with flow_at_work():
        return run_flow(targets, force)


def _drive(way: Way, targets: Sequence[str], force: bool) -> int:
    try:
        return way(targets, force)
    except GPTCoreError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _stopped(code: int) -> int:
    print(
        "\nStopped. The message of the stage that failed stands above; run the same command again to go on "
        "from where it was.",
        file=sys.stderr,
    )
    return code


def _tell(root: Path, targets: Sequence[str]) -> int:
    """The verdict, the report, the summary; of a part of the DAG there is no verdict."""
    found = None if targets else _verdict(root)
    stages: list[StageNode] = []
    _view("the DAG", lambda: stages.extend(dvc_graph.stages()))
    _view("the report", lambda: _render(root, stages))
    if found:
        print(f"\n{found.text}")
    names = [stage.name for stage in stages]
    _view("the summary", lambda: print(f"\n{summary(root, names, switched_off(root))}"))
    return found.code if found else 0


def _render(root: Path, stages: Sequence[StageNode]) -> None:
    """One at a time: runs that waited for each other end together."""
    with locks.held(project.scratch() / "report.lock"):
        render(root, root / "data" / "report", stages, switched_off(root))


def _verdict(root: Path) -> Verdict:
    try:
        return verdict(root)
    except DataError as error:  # a record that can't be read: said, and the rest goes on
        return Verdict(f"NOT COMPARED: {error}", error.exit_code)


def _tell_profile(root: Path) -> None:
    if names := profiles.in_force(root):
        print(
            f"\nIn force: profile {names}. Going back, with your own edits kept: {profiles.GO_BACK}; then `dvc repro` "
            "takes what was made before from DVC's cache"
        )


def _view(name: str, show: Callable[[], object]) -> None:
    """Views come after the work: whatever is wrong with one is said, and spoils nothing."""
    try:
        show()
    except Exception as error:
        print(f"{name} failed, the results are not affected: {error!r}", file=sys.stderr)

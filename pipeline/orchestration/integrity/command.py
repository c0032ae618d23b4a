"""``python -m pipeline verify``: what it prints, and its exit code."""

import os
from pathlib import Path

from gptcore.errors import DataError
from pipeline import project
from pipeline.orchestration.busy import nothing_running
from pipeline.orchestration.dvc_files import mend_lock_table
from pipeline.orchestration.integrity.findings import REPAIR, Kind
from pipeline.orchestration.integrity.repair import repair as mend
from pipeline.orchestration.integrity.verify import look, told


def verify(root: Path, place: Path | None, repair: bool) -> int:
    """Look, repair if asked to, tell; 0 if all is well or was made so, 65 on damage."""
    if repair:
        mend_lock_table()
        done = mend(root, place)
    else:
        _refuse_while_a_run_writes()
        done = look(root, place)
    print(told(done))
    mendable = [finding for finding in done.damage if finding.kind not in (Kind.FOREIGN, Kind.COMMITTED)]
    if mendable and not repair:
        print(f"To make it again: `{REPAIR}`")
    elif any(finding.kind is not Kind.COMMITTED for finding in done.damage):
        print("This can't be made again here: take an intact copy from elsewhere.")
    return DataError.exit_code if done.damage else 0


def _refuse_while_a_run_writes() -> None:
    if os.access(project.scratch(), os.W_OK):  # where nothing can be written, nothing runs
        with nothing_running():
            return

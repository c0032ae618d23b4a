"""``python -m pipeline verify``: what it prints, and its exit code."""

import os
from pathlib import Path

from gptcore.errors import BusyError, DataError
from pipeline import locks, project
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
    elif done.damage:
        print("This can't be made again here: take an intact copy from elsewhere.")
    return DataError.exit_code if done.damage else 0


def _refuse_while_a_run_writes() -> None:
    lock = project.scratch() / "repro.lock"
    if lock.exists() and os.access(lock, os.W_OK):
        with locks.held(lock, wait=False) as mine:
            if mine is None:
                raise BusyError(f"a run is writing (process {locks.holder(lock)}); wait for its end and verify then")

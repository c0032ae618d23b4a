"""Four flows at once, with Prefect's and MLflow's databases still to be made.

In four clones all must succeed.  In one clone one does the work, and the others wait for it and then find nothing to
do, or say that it is busy; never do two write the same thing.  Either way no database may be locked for good, and
every run reaches the tracker.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from gptcore.errors import BusyError
from pipeline.tracking import delivery
from tests.faults import tiny
from tests.faults.campaign import Campaign, Scene
from tests.faults.campaigns.kills import differences, forget, written_twice
from tests.faults.tiny import Tiny

FLOWS = 4
LIMIT_SECONDS = 900.0
DELIVERY_SECONDS = 120.0
COMMAND = (sys.executable, "-m", "pipeline", "flow", "windows")


def prepare(shared: Path) -> None:
    tiny.made()


def trial(scene: Scene) -> str | None:
    """A clone for each flow; every fourth time one for all."""
    shares = scene.number % 4 == 3
    runs = [fresh(scene.folder / str(number)) for number in range(1 if shares else FLOWS)]
    flows = [(run, run.start(*COMMAND, GPTCORE_TRACKING="mlflow")) for run in runs * (FLOWS if shares else 1)]
    try:
        return wait(flows) or next(filter(None, map(problem, runs)), None)
    finally:
        for run in runs:
            run.end()


def fresh(folder: Path) -> Tiny:
    """A copy in which one stage has to run, and that knows no tracker and no orchestrator yet."""
    folder.mkdir()
    run = tiny.copied(folder)
    forget(run, "windows")
    for name in (".prefect", "mlflow.db", "mlartifacts"):
        path = run.root / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return run


def wait(flows: list[tuple[Tiny, subprocess.Popen[bytes]]]) -> str | None:
    """For all to end; in a clone that several share one at least does the work."""
    until = time.monotonic() + LIMIT_SECONDS
    while any(process.poll() is None for _, process in flows):
        if time.monotonic() > until:
            return f"not done within {LIMIT_SECONDS:g} s"
        if twice := next(filter(None, (written_twice(run) for run, _ in flows)), ""):
            return f"two processes write {twice} at once"
        time.sleep(tiny.POLL_SECONDS)
    codes = [process.returncode for _, process in flows]
    shares = len({run.root for run, _ in flows}) == 1
    allowed = {0, BusyError.exit_code} if shares else {0}
    if set(codes) <= allowed and 0 in codes:
        return None
    bad = next((run for run, process in flows if process.returncode not in allowed), flows[0][0])
    return f"ended with {codes}: {bad.printed[-1200:]}"


def problem(run: Tiny) -> str | None:
    if "database is locked" in run.printed:
        return f"a locked database: {run.printed[-1200:]}"
    if "going on without it" in run.printed:
        return f"not a flow: {run.printed[-1200:]}"
    spools = run.root / "data" / ".scratch" / "spool"
    until = time.monotonic() + DELIVERY_SECONDS
    while delivery.undelivered(spools) and time.monotonic() < until:
        time.sleep(tiny.POLL_SECONDS)
    if left := delivery.undelivered(spools):
        return f"not delivered to the tracker: {', '.join(path.name for path in left)}"
    return differences(run, tiny.made().results())


CAMPAIGNS = [
    Campaign(
        "crowd",
        "four flows at once on fresh homes all succeed; in one clone one works and the others wait or say busy",
        28,
        1,
        trial,
        prepare,
        processes=True,
    )
]

"""A clock that jumps a day forwards or backwards while a stage runs: nothing that is kept may depend on it.

In every Python process of the run ``time.time`` and ``time.time_ns`` jump at a drawn moment; ``time.monotonic``, as
the kernel's, does not.  What asks the kernel by another way (file times, ``datetime.now``) keeps the true time, so
that the two disagree as well.
"""

import sys
from pathlib import Path

from tests.faults import tiny
from tests.faults.campaign import Campaign, Scene
from tests.faults.campaigns.kills import again, differences, forget

JUMP = """
import os, time
_time, _time_ns, _began = time.time, time.time_ns, time.monotonic()

def _jump():
    return int(os.environ["FAULTS_JUMP"]) if time.monotonic() - _began > float(os.environ["FAULTS_AFTER"]) else 0

time.time = lambda: _time() + _jump()
time.time_ns = lambda: _time_ns() + _jump() * 1_000_000_000
"""
DAY_SECONDS = 86400


def prepare(shared: Path) -> None:
    tiny.made()
    (shared / "sitecustomize.py").write_text(JUMP)


def trial(scene: Scene) -> str | None:
    """Stage and direction follow from the number, the moment is drawn."""
    seconds = tiny.seconds()
    stages = sorted(seconds)
    stage = stages[scene.number % len(stages)]
    jump = DAY_SECONDS * (-1 if scene.number // len(stages) % 2 else 1)
    moment = scene.rng.uniform(0.2, seconds[stage])
    run = tiny.copied(scene.folder)
    forget(run, stage)
    more = {"PYTHONPATH": str(scene.shared), "FAULTS_JUMP": str(jump), "FAULTS_AFTER": f"{moment:.3f}"}
    try:
        words = again(run, [sys.executable, "-m", "pipeline", "repro", stage], **more)
        words = words or differences(run, tiny.made().results())
    finally:
        run.end()
    return f"{stage}, {jump:+d} s after {moment:.1f} s: {words}" if words else None


CAMPAIGNS = [
    Campaign(
        "clock",
        "a clock that jumps a day in the middle of a stage changes no byte",
        24,
        1,
        trial,
        prepare,
        processes=True,
    )
]

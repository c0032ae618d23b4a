"""Kills of whole runs: any stage, any moment, any signal, whoever is hit, whichever way the run was started.

Everything but one stage is up to date in a copy of the tiny clone; that stage is made to run, and something is killed
while it does.  The same command once more must end well, with the bytes of the undisturbed run, and at no time may
two processes write the same thing.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from tests.faults import tiny
from tests.faults.campaign import Campaign, Scene
from tests.faults.tiny import Tiny

DRIVERS = {
    "bare": ("dvc", "repro"),
    "repro": (sys.executable, "-m", "pipeline", "repro"),
    "flow": (sys.executable, "-m", "pipeline", "flow"),
}
SIGNALS = {
    "SIGKILL": [signal.SIGKILL],
    "SIGTERM": [signal.SIGTERM],
    "SIGINT": [signal.SIGINT],
    "SIGINT twice": [signal.SIGINT, signal.SIGINT],
}
TARGETS = ("group", "orchestrator", "worker")
BETWEEN_SIGNALS_SECONDS = 0.3
START_SECONDS = 90.0
END_SECONDS = 120.0
RERUN_SECONDS = 600.0
_DRAFT = re.compile(r"/\.[^/]+\.(?:tmp|old)-\d+(?:/|$)")
BEFORE_THE_STAGE = 0.1
"""The share of kills that come before the stage has begun: DVC or Prefect is starting, outs are being removed."""


def prepare(shared: Path) -> None:
    tiny.made()


def trial(scene: Scene) -> str | None:
    """The stage follows from the number, all else is drawn."""
    seconds = tiny.seconds()
    stages = sorted(seconds)
    stage = stages[scene.number % len(stages)]
    driver, sign, target = (scene.rng.choice(sorted(choices)) for choices in (DRIVERS, SIGNALS, TARGETS))
    early = scene.rng.random() < BEFORE_THE_STAGE
    # a little past the measured end: DVC's hashing and its lock file follow
    moment = scene.rng.uniform(0.0, 3.0 if early else 1.2 * seconds[stage] + 1.0)
    expected = tiny.made().results()
    run = tiny.copied(scene.folder)
    forget(run, stage)
    what = f"{stage}, {driver}, {sign} to the {target} {moment:.1f} s after the {'start' if early else 'stage began'}"
    try:
        killed = kill(run, [*DRIVERS[driver], stage], stage, sign, target, None if early else stage, moment)
        words = again(run, [*DRIVERS[driver], stage]) or differences(run, expected)
    finally:
        run.end()
    return f"{what} ({killed}): {words}" if words else None


def forget(run: Tiny, stage: str) -> None:
    """Make this stage the one that has to run: no record, no outs, no saved states, nothing to take from a cache."""
    yaml = YAML()
    yaml.width = 4096
    lock = yaml.load(run.root / "dvc.lock")
    for out in lock["stages"].pop(stage)["outs"]:
        path = run.root / out["path"]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    yaml.dump(lock, run.root / "dvc.lock")
    for left in (".dvc/cache/runs", "data/.scratch", "data/.provenance", ".dvc/tmp"):
        shutil.rmtree(run.root / left, ignore_errors=True)


def kill(run: Tiny, command: list[str], stage: str, sign: str, target: str, wait_for: str | None, moment: float) -> str:
    """Start the command, strike, and wait for its end; returns what came of it, in a word."""
    process = run.start(*command)
    until = time.monotonic() + START_SECONDS
    while wait_for and wait_for not in run.workers().values() and process.poll() is None and time.monotonic() < until:
        time.sleep(tiny.POLL_SECONDS)
    with suppress(subprocess.TimeoutExpired):
        process.wait(moment)
        return f"had ended with {process.returncode} before"
    for index, number in enumerate(SIGNALS[sign]):
        time.sleep(BETWEEN_SIGNALS_SECONDS * bool(index))
        for pid in struck(run, process, stage, target, number):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
    try:
        return f"ended with {process.wait(END_SECONDS)}"
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"did not end within {END_SECONDS:g} s"


def struck(run: Tiny, process: subprocess.Popen[bytes], stage: str, target: str, number: int) -> list[int]:
    """Whom the signal goes to.

    The group is what a terminal sends Ctrl-C to; SIGKILL goes to every process, as where power or memory ends.
    """
    if target == "worker":
        return [pid for pid, own in run.workers().items() if own == stage]
    if target == "orchestrator":
        return [process.pid]
    members = run.processes()
    if number != signal.SIGKILL:
        members = [member for member in members if _group(member) == process.pid]
    return [member.pid for member in members]


def again(run: Tiny, command: list[str], **more: str) -> str | None:
    """The same command once more: it must end well, and never may two processes write one thing."""
    process = run.start(*command, **more)
    until = time.monotonic() + RERUN_SECONDS
    while process.poll() is None:
        if time.monotonic() > until:
            return f"the rerun did not end within {RERUN_SECONDS:g} s"
        if twice := written_twice(run):
            return f"two processes write {twice} at once"
        time.sleep(tiny.POLL_SECONDS)
    return f"the rerun ended with {process.returncode}: {run.printed[-800:]}" if process.returncode else None


def written_twice(run: Tiny) -> str:
    """The name of a directory of which two living processes have a draft; empty: none."""
    drafts: dict[str, set[int]] = {}
    for path in _drafts(run):
        name, _, pid = path.name.rpartition(".tmp-")
        if pid.isdigit() and psutil.pid_exists(int(pid)):
            drafts.setdefault(name, set()).add(int(pid))
    return next((name for name, pids in drafts.items() if len(pids) > 1), "")


def _drafts(run: Tiny) -> list[Path]:
    """Those that are there now; a folder may go while it is looked into."""
    while True:
        with suppress(FileNotFoundError):
            return [*run.root.glob("data/.*.tmp-*"), *run.root.glob("data/*/.*.tmp-*")]


def differences(run: Tiny, expected: dict[str, str], *, drafts: bool = False) -> str | None:
    """From the undisturbed run, in a line; ``drafts`` may lie there where nobody could remove them."""
    found = {name: digest for name, digest in run.results().items() if not (drafts and _DRAFT.search(name))}
    lost = sorted(set(expected) - set(found))
    more = sorted(set(found) - set(expected))
    other = sorted(name for name in set(found) & set(expected) if found[name] != expected[name])
    parts = {"missing": lost, "too many": more, "other bytes": other}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names) or None


def _group(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return 0


CAMPAIGNS = [
    Campaign(
        "kills",
        "a run killed at any moment ends, after the same command once more, with the bytes of an undisturbed one",
        25 * 12,
        2,
        trial,
        prepare,
        processes=True,
    )
]

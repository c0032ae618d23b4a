"""Bits that flip in a project that is up to date, as its user meets them.

A trial flips a bit in a copy of the tiny clone, half of the time as a disk rots, the file's times kept.  Then everybody
is asked who reads the file: a stage that has it as input, the library's command line where it is a model, ``verify``,
and at last a whole run with its verdict.  Each must refuse and name the file.  Only the run may also have made it good
without being asked, for DVC makes again what it sees changed.  The remedy is taken out of the last message and
executed as it stands; then a run must say "Same bytes", and every file be what it was.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gptcore.artifact import MANIFEST
from pipeline.orchestration.dvc_files import recorded
from tests.faults import damage, tiny
from tests.faults.campaign import Campaign, Scene
from tests.faults.tiny import Tiny

RUN = ("python", "-m", "pipeline", "repro")
VERIFY = ("python", "-m", "pipeline", "verify")
SAME = "Same bytes"
REMEDY = re.compile(r"`((?:python -m pipeline|dvc|make|rm) [^`]*)`")
LIMIT_SECONDS = 600.0
SHOWN = 400

KINDS = {
    "export": "data/export/*/*",
    "metrics": "data/metrics/*.json",
    "tokens": "data/tokens/*",
    "dvc-cache": ".dvc/cache/files/md5/*/*",
    "checkpoint": "data/checkpoints/*/*",
    "training-state": "data/.scratch/*/*/step-*/*",
    "raw": "data/raw/**/*",
    "vocabulary": "data/tokenizer/*",
    "windows": "data/windows/*",
    "plots": "data/plots/*.csv",
    "views": "data/views/*.json",
    "evaluation": "data/evaluation/*",
    "manifest": f"data/**/{MANIFEST}",
}


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    text: str

    def problem(self, file: Path) -> str | None:
        """None where it refused and named the file."""
        if self.code == 0:
            return "silent"
        if "Traceback" in self.text:
            return f"a traceback: {self.text[-SHOWN:]}"
        return None if file.name in self.text else f"told without the file's name: {self.text[-SHOWN:]}"


def prepare(shared: Path) -> None:
    tiny.made()


def trial(scene: Scene) -> str | None:
    kind = list(KINDS)[scene.number % len(KINDS)]
    run = tiny.copied(scene.folder)
    try:
        return _trial(scene, kind, run)
    finally:
        run.end()


def _trial(scene: Scene, kind: str, run: Tiny) -> str | None:
    _record(run)
    if SAME not in (settled := _said(run, *RUN)).text:  # DVC now knows these files by their times
        return f"the undisturbed run does not end in {SAME!r}: {settled.text[-SHOWN:]}"
    before = run.results()
    files = sorted(p for p in run.root.glob(KINDS[kind]) if p.is_file() and p.name != ".gitignore")
    rot = scene.rng.random() < 0.5
    if kind == "dvc-cache":
        for path in files:
            path.chmod(0o644)
    done = damage.flip(scene.rng, files, keep_times=rot)
    (file,) = done.files
    where = f"{kind}, {done.what} of {file.relative_to(run.root)}{', times kept' if rot else ''}"
    for who, command in _readers(scene, run, file):
        if problem := _said(run, *command).problem(file):
            return f"{where}, {who}: {problem}"
    if kind == "dvc-cache":
        _forget_outs(run)
    remedy, problem = _run(run, file, before)
    if remedy and not problem:
        problem = _mended(run, remedy, before)
    return problem and f"{where}, {problem}"


def _readers(scene: Scene, run: Tiny, file: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Who reads the file, and how: a stage, the library's command line, ``verify``."""
    stages = recorded((run.root / "dvc.lock").read_text(encoding="utf-8"))
    readers = [
        entry["cmd"]
        for entry in stages.values()
        if any(file.is_relative_to(run.root / dep["path"]) for dep in entry["deps"])
    ]
    if readers:
        yield "a stage", tuple(shlex.split(scene.rng.choice(readers)))
    if (file.parent / "config.json").is_file():
        command = "classify" if "Classif" in (file.parent / "config.json").read_text(errors="replace") else "generate"
        yield "the command line", ("python", "-m", "gptcore", command, str(file.parent.relative_to(run.root)), "x")
    yield "verify", VERIFY


def _run(run: Tiny, file: Path, before: dict[str, str]) -> tuple[str, str | None]:
    """A whole run: (the remedy that it names, if it names one; what is wrong)."""
    said = _said(run, *RUN)
    if said.code == 0:
        if changed := _differing(run, before):
            return "", f"the run: silent, {changed} is not what it was"
        found = _said(run, *VERIFY)  # what no run reads, such as a saved state, stays for verify to name
        return ("", None) if found.code == 0 else (_remedy(found), _unnamed(found, file))
    return _remedy(said), said.problem(file) or (None if _remedy(said) else f"no remedy in: {said.text[-SHOWN:]}")


def _unnamed(found: Said, file: Path) -> str | None:
    if problem := found.problem(file):
        return f"verify: {problem}"
    return None if _remedy(found) else f"verify: no remedy in: {found.text[-SHOWN:]}"


def _mended(run: Tiny, remedy: str, before: dict[str, str]) -> str | None:
    done = _said(run, *shlex.split(remedy))
    if done.code:
        return f"the remedy `{remedy}` ended with {done.code}: {done.text[-SHOWN:]}"
    said = _said(run, *RUN)
    if said.code or SAME not in said.text:
        return f"after the remedy `{remedy}` a run ends with {said.code}: {said.text[-SHOWN:]}"
    if changed := _differing(run, before):
        return f"after the remedy `{remedy}` {changed} is not what it was"
    found = _said(run, *VERIFY)
    return f"after the remedy `{remedy}` verify still says: {found.text[-SHOWN:]}" if found.code else None


def _remedy(said: Said) -> str:
    """The command that the message tells one to run; the last, if there are more.

    What a run says after its verdict is no remedy: how one goes back from a profile.
    """
    found = REMEDY.findall(said.text.partition("\nIn force: ")[0])
    return found[-1] if found else ""


def _differing(run: Tiny, before: dict[str, str]) -> str:
    """The first file that isn't what it was, or empty."""
    now = run.results()
    return next((name for name in sorted({*before, *now}) if before.get(name) != now.get(name)), "")


def _record(run: Tiny) -> None:
    """Commit what the run of the tiny profile wrote: the verdict compares with the last commit."""
    identity = ("-c", "user.name=t", "-c", "user.email=t@t")
    for command in (("add", "-A"), (*identity, "commit", "-qm", "tiny")):
        subprocess.run(["git", *command], cwd=run.root, env=run.environment, check=True, capture_output=True)


def _forget_outs(run: Tiny) -> None:
    """Remove what DVC can check out again, so that it has to."""
    for stage in recorded((run.root / "dvc.lock").read_text(encoding="utf-8")).values():
        for out in stage["outs"]:
            path = run.root / out["path"]
            if path.is_dir():
                shutil.rmtree(path)
            elif path.parent.name != "metrics":
                path.unlink()


def _said(run: Tiny, *command: str) -> Said:
    command = (sys.executable, *command[1:]) if command[0] == "python" else command
    done = subprocess.run(
        command,
        cwd=run.root,
        env=run.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_SECONDS,
        check=False,
    )
    return Said(done.returncode, done.stdout + done.stderr)


CAMPAIGNS = [
    Campaign(
        "flips-outside",
        "a flipped bit is named by every program that reads it, and the remedy in the message mends it",
        full=10 * len(KINDS),
        selection=2,
        trial=trial,
        prepare=prepare,
        processes=True,
    )
]

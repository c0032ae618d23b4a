"""A clone of the project in which the tiny profile has run: what a trial copies, disturbs and compares with.

It is made once for a state of the code and kept in ``data/.scratch``, for it takes a minute.  A copy is a real one:
databases and DVC's state are edited in place, and a hard link would carry the damage back.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import psutil

from gptcore.artifact import canonical_json, sha256_file, sha256_text
from pipeline import locks
from pipeline.orchestration.dvc_files import recorded
from tests.clone import BIN, OUTS, ROOT, Clone, files

POLL_SECONDS = 0.05
KEPT_SECONDS = 86400.0  # of other code: another run may still copy it
MARK = "GPTCORE_FAULTS_TRIAL"
RESULTS = (*OUTS, "raw", "tokenizer")


@dataclass(frozen=True)
class Tiny:
    """A clone or a copy of it."""

    root: Path

    @cached_property
    def environment(self) -> dict[str, str]:
        """Everything that tools keep outside the project lies beside it; no tracker, which the stages never read."""
        home = self.root.parent
        return {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "GPTCORE_TRACKING": "off",
            MARK: str(self.root),
        }

    def results(self) -> dict[str, str]:
        """sha256 of every file that stages wrote, and of every entry of dvc.lock, whose order is that of the runs."""
        entries = recorded((self.root / "dvc.lock").read_text())
        found = {f"dvc.lock: {stage}": sha256_text(canonical_json(entry)) for stage, entry in entries.items()}
        for name in RESULTS:
            files = sorted(p for p in (self.root / "data" / name).rglob("*") if p.is_file())
            found |= {p.relative_to(self.root).as_posix(): sha256_file(p) for p in files if p.name != ".gitignore"}
        return found

    def start(self, *command: str, **more: str) -> subprocess.Popen[bytes]:
        """In a session of its own, its output in the file ``printed`` beside the clone."""
        with open(self.root.parent / "printed", "ab") as printed:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env={**self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        return (self.root.parent / "printed").read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """All that belong to this copy, orphans included."""
        return [process for process in psutil.process_iter() if _mark(process) == str(self.root)]

    def workers(self) -> dict[int, str]:
        """Process → stage, of those that run one."""
        found = {}
        for process in self.processes():
            if stage := _stage(process):
                found[process.pid] = stage
        return found

    def end(self) -> None:
        """Kill whatever is left of it."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.Error:
                continue


@cache
def made() -> Tiny:
    """The clone of this state of the code; made where it isn't there."""
    home, name = ROOT / "data" / ".scratch" / "faults-tiny", _content()
    with locks.held(home / "lock", what="another process that makes the tiny clone"):
        for other in home.iterdir():
            if other.is_dir() and other.name != name and time.time() - other.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
        if not (home / name / "seconds.json").exists():
            shutil.rmtree(home / name, ignore_errors=True)
            _make(home / name)
    return Tiny(home / name / "project")


def seconds() -> dict[str, float]:
    """Stage of ``dvc repro`` → how long its process lived in the undisturbed run."""
    return json.loads((made().root.parent / "seconds.json").read_text())


def copied(folder: Path) -> Tiny:
    """A copy in ``folder``, with everything up to date; what a killed run of this trial left running is ended."""
    run = Tiny(folder / "project")
    run.end()
    shutil.copytree(made().root, run.root, symlinks=True)
    return run


@cache
def _content() -> str:
    """Hash of the files that a clone has, and of the threads, which decide the last bits."""
    digest = hashlib.sha256(os.environ.get("GPTCORE_THREADS", "").encode())
    for name in files():
        content = (ROOT / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _make(home: Path) -> None:
    (home / "project").mkdir(parents=True)
    tiny = Tiny(Clone(home / "project").root)
    lived: dict[str, float] = {}
    process = tiny.start(sys.executable, "-m", "pipeline", "repro", "--profile", "tiny")
    last = time.monotonic()
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        now = time.monotonic()
        for stage in tiny.workers().values():
            lived[stage] = lived.get(stage, 0.0) + now - last
        last = now
    if process.returncode:
        raise RuntimeError(f"the tiny profile ended with {process.returncode}: {tiny.printed[-2000:]}")
    (home / "seconds.json").write_text(json.dumps(lived))


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except (psutil.Error, OSError):
        return ""


def _stage(process: psutil.Process) -> str:
    """The name of the stage, as dvc.lock has it, if that is what this process runs."""
    try:
        line = process.cmdline()
    except (psutil.Error, OSError):
        return ""
    if line[1:3] != ["-m", "pipeline"] or "--out" not in line:
        return ""
    metrics = line[line.index("--metrics") + 1] if "--metrics" in line else f"{line[3]}.json"
    return Path(metrics).stem.replace("-", "@", 1)

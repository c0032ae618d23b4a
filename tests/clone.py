"""A fresh copy of the project's files under git, with nothing run in it yet, for the tests that run it whole."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from gptcore.artifact import sha256_file

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
LEFT_OUT = ("data/metrics/", "data/records/", "docs/", "benchmarks/", "tests/")
OUTS = ("checkpoints", "evaluation", "export", "metrics", "plots", "tokens", "views", "windows")


def files() -> list[str]:
    """The names of what a clone has."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(n for n in names if (ROOT / n).is_file() and not n.startswith(LEFT_OUT) and n != "dvc.lock")


class Clone:
    """Handles on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in files():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-qm", "clone")
        self.more: dict[str, str] = {}
        """Added to the environment of what runs in it."""

    @property
    def environment(self) -> dict[str, str]:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "GIT_CONFIG_GLOBAL": os.devnull, "PYTHONPATH": "", **self.more}

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True)

    def run(self, *command: str, code: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False, stdin=None
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def repro(self, *arguments: str, code: int = 0) -> str:
        return self.run("python", "-m", "pipeline", "repro", *arguments, code=code)

    def outs(self) -> dict[str, str]:
        """sha256 of every file that stages wrote."""
        files = [p for part in OUTS for p in sorted((self.root / "data" / part).rglob("*"))]
        files = [p for p in files if p.is_file() and p.name != ".gitignore"]
        return {p.relative_to(self.root).as_posix(): sha256_file(p) for p in files}

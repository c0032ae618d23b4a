"""What git says of this project, by its own program; where there is no repository, or no git, it says nothing.

No lock is taken for a look (``--no-optional-locks``), so none can be in the way of the user's own git, and a git that
hangs is given up: nobody here depends on an answer.
"""

import subprocess
from pathlib import Path

PATIENCE_SECONDS = 20


def git(root: Path, *arguments: str) -> str:
    """What git prints; empty if it fails."""
    return _run(root, *arguments).decode(errors="replace")


def at_head(root: Path, path: str) -> str:
    """A file's text in the last commit; empty where that has no such file."""
    return blob(root, path).decode(errors="replace")


def blob(root: Path, path: str) -> bytes:
    """A file's bytes in the last commit; empty where that has no such file."""
    return _run(root, "show", f"HEAD:./{path}")


def tracked(root: Path, folder: str) -> set[str]:
    """The files below ``folder`` that git knows."""
    return set(filter(None, git(root, "ls-files", "-z", "--", folder).split("\0")))


def is_changed(root: Path) -> bool:
    """Whether tracked files differ from the last commit."""
    return bool(git(root, "status", "--porcelain", "--untracked-files=no"))


def _run(root: Path, *arguments: str) -> bytes:
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=False, timeout=PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""

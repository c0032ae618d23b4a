"""What the last commit holds, through git's own program; where there is no repository it holds nothing."""

import subprocess
from pathlib import Path


def git(root: Path, *arguments: str) -> str:
    """What git prints; empty if it fails."""
    return _run(root, *arguments).decode(errors="replace")


def at_head(root: Path, path: str) -> str:
    """A file's text; empty where the commit has no such file."""
    return blob(root, path).decode(errors="replace")


def blob(root: Path, path: str) -> bytes:
    """A file's bytes; empty where the commit has no such file."""
    return _run(root, "show", f"HEAD:./{path}")


def tracked(root: Path, folder: str) -> set[str]:
    """The files below ``folder`` that git knows."""
    return set(filter(None, git(root, "ls-files", "-z", "--", folder).split("\0")))


def _run(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""

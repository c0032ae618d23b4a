"""The record of a run of the campaigns: a line of JSON a trial, so that a run can be stopped and gone on with.

The first line says of which code the trials are: a commit, and a hash of what differs from it.  A line is written in
one call after its trial; a half-written one at the end is cut off, and its trial is done again.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from gptcore.errors import BusyError, ParameterError
from pipeline import locks

ROOT = Path(__file__).resolve().parents[2]
NO_CODE = ("data/", "docs/", "README.md", "CHANGELOG.md")


@dataclass(frozen=True)
class Result:
    """What came out of one trial."""

    campaign: str
    number: int
    seed: int
    ok: bool
    words: str
    """What happened, where the promise did not hold; else empty."""
    seconds: float

    @property
    def key(self) -> tuple[str, int, int]:
        return self.campaign, self.number, self.seed


@dataclass
class Journal:
    """An open record; `opened` makes one."""

    path: Path
    code: dict[str, str]
    """``commit``, ``changed`` and ``date`` of its first line."""
    results: dict[tuple[str, int, int], Result] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        _append(self.path, asdict(result))
        self.results[result.key] = result


@contextmanager
def opened(path: Path, *, whatever_code: bool = False) -> Iterator[Journal]:
    """The record at ``path``, gone on with if there is one; held alone.

    Raises ``ParameterError`` where it is of other code, unless any will do, and ``BusyError`` beside another process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.held(path.with_suffix(".lock"), wait=False) as mine:
        if mine is None:
            raise BusyError(f"{path}: process {locks.holder(path.with_suffix('.lock'))} is writing it; wait for it")
        lines = _whole_lines(path)
        if not lines:
            lines = [code()]
            _append(path, lines[0])
        header, now = lines[0], code()
        if (header["commit"], header["changed"]) != (now["commit"], now["changed"]) and not whatever_code:
            raise ParameterError(
                f"{path}: its trials are of commit {_shown(header)}, this is {_shown(now)}; "
                "name another --out, delete it, or say --whatever-code"
            )
        results = [Result(**line) for line in lines[1:]]
        yield Journal(path, header, {result.key: result for result in results})


def code() -> dict[str, str]:
    """Which code this is: the commit, a hash of what was changed since (empty: nothing), and the day."""
    commit = _git("rev-parse", "HEAD").strip() or "none"
    names = _git("diff", "--name-only", "HEAD").splitlines()
    names += _git("ls-files", "--others", "--exclude-standard").splitlines()
    digest = hashlib.sha256()
    changed = sorted(name for name in set(names) if not name.startswith(NO_CODE))
    for name in changed:
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return {
        "commit": commit,
        "changed": digest.hexdigest()[:16] if changed else "",
        "date": datetime.now(UTC).date().isoformat(),
    }


def _shown(header: dict[str, str]) -> str:
    return header["commit"][:12] + (f" with changes {header['changed']}" if header["changed"] else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout


def _whole_lines(path: Path) -> list[dict[str, object]] | list:
    """Of the record; what a kill left of a line is cut off."""
    content = path.read_bytes() if path.exists() else b""
    lines, whole = [], 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        with suppress(ValueError):
            lines.append(json.loads(line))
        whole += len(line)
    if whole < len(content):
        os.truncate(path, whole)
    return lines


def _append(path: Path, line: dict[str, object] | dict[str, str]) -> None:
    content = json.dumps(line, ensure_ascii=False).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if os.write(descriptor, content) < len(content):
            raise OSError(f"{path}: the disk is full")
    finally:
        os.close(descriptor)

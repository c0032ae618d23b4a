"""Files below ``data/`` that nothing knows: no stage wrote them, no stage reads them, and git has never heard of them.

Outs of stages that were renamed, drafts of killed processes, somebody's notes: none of it is an error, all of it
is found by nobody else.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import project
from pipeline.git import tracked
from pipeline.orchestration.integrity.findings import Finding, Kind

OURS = (".cache", ".provenance", "report")
"""Below ``data/``: made by every run, and no results."""
MADE_BY_DVC = ".gitignore"
LEFT = (".tmp-", ".old-")
"""In the names of drafts; those of living processes go by themselves."""


def findings(root: Path, data: Path, lock: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    """One for each folder whose files are all unknown, and for each unknown file beside known ones."""
    paths = [entry["path"] for stage in lock.values() for part in ("outs", "deps") for entry in stage.get(part, [])]
    known = {root / path for path in [*paths, *tracked(root, data.name)]}
    known |= {project.scratch(), *(data / name for name in OURS)}
    if data.is_dir():
        yield from _below(data, known)
    for path in sorted(project.scratch().rglob(".*")):
        if path.name.startswith(".") and any(mark in path.name for mark in LEFT):
            yield Finding(Kind.UNKNOWN, path, f"a draft that a killed process left{_size(path)}")


def _below(folder: Path, known: set[Path]) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        if path in known or path.name == MADE_BY_DVC:
            continue
        if path.is_dir() and any(other.is_relative_to(path) for other in known):
            yield from _below(path, known)
        elif files := _files(path):
            draft = "a draft that a killed process left" if any(mark in path.name for mark in LEFT) else "unknown"
            yield Finding(Kind.UNKNOWN, path, f"{draft}: nothing wrote it, nothing reads it{_size(path, files)}")


def _size(path: Path, files: list[Path] | None = None) -> str:
    files = _files(path) if files is None else files
    return f" ({len(files)} file(s), {sum(file.lstat().st_size for file in files) / 1e6:.1f} MB)"


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if not file.is_dir()] if path.is_dir() else [path]

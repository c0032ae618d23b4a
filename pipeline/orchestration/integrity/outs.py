"""What stages wrote, held against dvc.lock: which files are missing, changed or too many.

dvc.lock has one hash a directory.  Its files are named by DVC's object of the directory where that is intact, else by
the artifact's own manifest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from gptcore.artifact import MANIFEST, read_manifest
from gptcore.errors import DataError
from pipeline.orchestration import dvc_files
from pipeline.orchestration.integrity.findings import Finding, Kind
from pipeline.orchestration.integrity.on_disk import DIRECTORY, Content, Disk

Listing = Callable[[str], dict[str, str] | None]
"""Hash of a directory → md5 of its files by name, or None where that isn't known."""


@dataclass(frozen=True)
class Out:
    """A file or directory that a stage wrote, as dvc.lock records it."""

    stage: str
    path: str
    md5: str

    @property
    def is_directory(self) -> bool:
        return self.md5.endswith(DIRECTORY)


def read_lock(text: str, name: str = dvc_files.LOCK) -> dict[str, dict[str, Any]]:
    """Stage → what a dvc.lock of this content records; raises ``DataError`` where it can't be read."""
    try:
        stages = dvc_files.recorded(text)
        for entry in stages.values():
            _ = [out["path"] for out in entry.get("outs", [])]
        return stages
    except (YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{name}: can't be read ({reason}); `git checkout {dvc_files.LOCK}` and run again") from None


def lock_here(root: Path) -> dict[str, dict[str, Any]]:
    """What the working tree's dvc.lock records of the stages that there are; nothing where there is none.

    DVC never takes an entry out: a stage that was dropped or renamed keeps its own.
    """
    try:
        lock = read_lock((root / dvc_files.LOCK).read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return {}
    known = dvc_files.still_there(lock, root)
    return {stage: entry for stage, entry in lock.items() if stage in known}


def outs_of(lock: dict[str, dict[str, Any]]) -> list[Out]:
    """Every out that has a hash."""
    return [
        Out(stage, out["path"], str(out["md5"]))
        for stage, entry in lock.items()
        for out in entry.get("outs", [])
        if out.get("md5")
    ]


def in_order(lock: dict[str, dict[str, Any]]) -> list[str]:
    """The stages, each after those whose outs it reads."""
    makers = [(Path(out.path), out.stage) for out in outs_of(lock)]
    above = {
        stage: [
            maker
            for dep in entry.get("deps", [])
            for path, maker in makers
            if Path(dep["path"]).is_relative_to(path) and maker != stage
        ]
        for stage, entry in lock.items()
    }
    return list(TopologicalSorter(above).static_order())


def faults(root: Path, out: Out, disk: Disk, listing: Listing) -> Iterator[Finding]:
    """What is wrong with ``out`` as it lies on disk, by file where that can be told."""
    here = disk.tree(root / out.path)
    if not here and not (root / out.path).is_dir():
        yield _finding(root, out, "", "missing")
    elif (found := disk.md5(root / out.path)) != out.md5:
        named = list(_by_file(root, out, here, expected_files(root, out, listing)))
        expected = f"expected md5 {out.md5} (dvc.lock), found {found}"
        yield from named or [_finding(root, out, "", f"damaged: {expected}")]


def expected_files(root: Path, out: Out, listing: Listing) -> dict[str, str]:
    """Name → md5 or sha256 of every file of a directory, as far as anything intact tells; of a file its md5."""
    if not out.is_directory:
        return {"": out.md5}
    if (known := listing(out.md5)) is not None:
        return known
    try:
        return {name: fact["sha256"] for name, fact in read_manifest(root / out.path).files.items()}
    except DataError:
        return {}


def _by_file(root: Path, out: Out, here: dict[str, Content], expected: dict[str, str]) -> Iterator[Finding]:
    for name, content in here.items():
        if name not in expected:
            if expected and name != MANIFEST:  # a manifest doesn't list itself
                yield _finding(root, out, name, "a file that dvc.lock does not know")
        elif expected[name] not in (content.md5, content.sha256):
            found = content.md5 if len(expected[name]) == len(content.md5) else content.sha256
            yield _finding(root, out, name, f"damaged: expected {expected[name]}, found {found}")
    for name in sorted(expected.keys() - here.keys()):
        yield _finding(root, out, name, "missing")


def _finding(root: Path, out: Out, name: str, problem: str) -> Finding:
    return Finding(Kind.OUT, root / out.path / name if name else root / out.path, problem, out.path)

"""Everything on disk, held in one pass against everything that says what should be there; each file is read once.

| what lies there | what says how it should be |
|---|---|
| what stages wrote: artifacts, metrics, views, plots | dvc.lock, and the artifact's own manifest |
| metrics in the last commit | the dvc.lock of that commit |
| saved states of trainings | their manifests |
| the download cache | a file's name is its sha256; wheels and models have manifests |
| DVC's cache, its run cache too | an object's name is its md5, an entry's the hash of what it holds |
| anything else below ``data/`` | nothing: it is reported, and no failure |

What is judged may be narrowed to one ``place``: a file, an artifact, one that was copied elsewhere too.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gptcore.artifact import MANIFEST, faults, read_manifest
from gptcore.errors import DataError
from pipeline import project
from pipeline.git import at_head, blob, tracked
from pipeline.orchestration import dvc_files, dvc_graph
from pipeline.orchestration.integrity import outs, strangers
from pipeline.orchestration.integrity.dvc_cache import Cache
from pipeline.orchestration.integrity.findings import Finding, Kind, shown
from pipeline.orchestration.integrity.on_disk import Disk
from pipeline.sources.pinned import default_cache

DATA = "data"
STATE = "step-*"
"""A training's saved state, below scratch."""
DOWNLOAD = re.compile(r"[0-9a-f]{64}")


@dataclass
class Look:
    """One pass; what it read stays known, so that a repair need not read it again."""

    root: Path
    place: Path
    """What is judged: the whole project, or what lies at or below this path."""
    disk: Disk = field(default_factory=Disk)
    findings: list[Finding] = field(default_factory=list)
    judged: int = 0
    """Things that something could be said of."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.lock = outs.lock_here(self.root)
        self.outs = outs.outs_of(self.lock)
        self.cache = Cache(dvc_graph.cache_folder(self.root), self.disk)

    @property
    def damage(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_damage]

    def concerns(self, path: Path) -> bool:
        """Whether ``path`` lies in the place, or the place in it."""
        whole = self.place == self.root and path.is_relative_to(default_cache().absolute())  # which may lie elsewhere
        return whole or path.is_relative_to(self.place) or self.place.is_relative_to(path)


def look(root: Path, place: Path | None = None) -> Look:
    """Judge everything, or what concerns ``place``; raises ``DataError`` where nothing says what it should be."""
    started = time.monotonic()
    done = Look(root, Path(os.path.abspath(place)) if place else root)
    if place is None and not done.outs:
        raise DataError(f"{dvc_files.LOCK}: missing or empty, so nothing says what should be here; run `make repro`")
    if not done.place.exists() and not any(done.concerns(root / out.path) for out in done.outs):
        raise DataError(f"{place}: missing, and dvc.lock knows of no such file")
    for check in (_outs, _commit, _artifacts, _downloads, _dvc_cache, _strangers):
        known = {finding.path for finding in done.findings}
        done.findings += [f for f in check(done) if f.path not in known and done.concerns(f.path)]
    if not done.judged:
        raise DataError(
            f"{place}: nothing says what it should hold; expected an artifact (a directory with {MANIFEST}), "
            "a file in one, or what dvc.lock names"
        )
    done.seconds = time.monotonic() - started
    return done


def _outs(look: Look) -> Iterator[Finding]:
    for out in look.outs:
        if look.concerns(look.root / out.path):
            look.judged += 1
            yield from outs.faults(look.root, out, look.disk, look.cache.listing)


def _commit(look: Look) -> Iterator[Finding]:
    """Metrics that were committed without the dvc.lock that records them, or the other way round."""
    recorded = outs.outs_of(outs.read_lock(at_head(look.root, dvc_files.LOCK), f"HEAD:{dvc_files.LOCK}"))
    files = tracked(look.root, DATA) if recorded else set()
    for out in recorded:
        if out.path in files and look.concerns(look.root / out.path) and (held := blob(look.root, out.path)):
            found = hashlib.md5(held, usedforsecurity=False).hexdigest()
            if found != out.md5:
                problem = f"the commit holds other bytes (md5 {found}) than its dvc.lock says ({out.md5}): "
                yield Finding(Kind.COMMITTED, look.root / out.path, f"{problem}commit both after a run")


def _artifacts(look: Look) -> Iterator[Finding]:
    """Every directory with a manifest, and saved states without one."""
    for directory in sorted(_directories(look)):
        look.judged += 1
        kind, owner = _owner(look, directory)
        try:
            manifest = read_manifest(directory)
        except DataError as error:
            problem = str(error).removeprefix(f"{directory / MANIFEST}: ").partition("; ")[0]
            yield Finding(kind, directory / MANIFEST, problem, owner)
            continue
        look.disk.content(directory / MANIFEST)
        for path, problem in faults(manifest, look.disk.sha256):
            yield Finding(kind, path, problem, owner)


def _directories(look: Look) -> set[Path]:
    """Of artifacts that concern the place: in outs, saved states and the download cache, and at the place itself."""
    around = [path for path in (look.place, *look.place.parents) if (path / MANIFEST).is_file()][:1]
    made = [*(look.root / out.path for out in look.outs), project.scratch(), default_cache().absolute()]
    if not look.root.is_relative_to(look.place):
        made.append(look.place)
    below = [path for top in made for path in top.rglob(MANIFEST)]
    states = [path for path in project.scratch().rglob(STATE) if path.is_dir()]
    found = [*states, *(path.parent for path in below)]
    return {*around, *(path for path in found if look.concerns(path) and not _is_unfinished(path))}


def waiting() -> Path:
    """Where a repair puts a damaged out until it is there again."""
    return project.scratch() / "damaged"


def _is_unfinished(path: Path) -> bool:
    """A draft, or what a repair put away."""
    return path.is_relative_to(waiting()) or any(part.startswith(".") and ".tmp-" in part for part in path.parts)


def _owner(look: Look, directory: Path) -> tuple[Kind, str]:
    for out in look.outs:
        if directory.is_relative_to(look.root / out.path):
            return Kind.OUT, out.path
    if directory.is_relative_to(project.scratch()):
        return Kind.STATE, str(directory)
    if directory.is_relative_to(default_cache().absolute()):
        return Kind.DOWNLOAD, str(directory)
    return Kind.FOREIGN, str(directory)


def _downloads(look: Look) -> Iterator[Finding]:
    for path in sorted(default_cache().absolute().glob("*")):
        if DOWNLOAD.fullmatch(path.name) and look.concerns(path):
            look.judged += 1
            if (found := look.disk.sha256(path)) != path.name:
                yield Finding(Kind.DOWNLOAD, path, f"damaged download: its sha256 is {found}", str(path))


def _dvc_cache(look: Look) -> Iterator[Finding]:
    if look.concerns(look.cache.folder):
        look.judged += 1
        yield from look.cache.findings()


def _strangers(look: Look) -> Iterator[Finding]:
    if look.place == look.root:
        yield from strangers.findings(look.root, look.root / DATA, look.lock)


def told(look: Look) -> str:
    """A line a finding, then what was looked at."""
    damage, unknown = look.damage, len(look.findings) - len(look.damage)
    lines = [finding.line(look.root) for finding in look.findings]
    size = f"{look.disk.files:,} files, {look.disk.bytes / 1e6:,.1f} MB, read in {look.seconds:.1f} s"
    where = "" if look.place == look.root else f"{shown(look.place, look.root)}: "
    state = f"{len(damage)} damaged or missing" if damage else "all as it should be"
    more = f"; {unknown} unknown, which is no failure" if unknown else ""
    return "\n".join([*lines, f"{where}{size}: {state}{more}"])

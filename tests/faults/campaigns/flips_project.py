"""Bits that flip under what no manifest covers: metrics, plots, views, and DVC's cache.

What reads them for people and for DVC takes any bytes, so they are told by whoever holds them against what dvc.lock
and the names of the cache's objects say: ``python -m pipeline verify`` and the verdict at the end of a run, whose
routines are called here in this process on a copy of the few files that a trial needs.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.orchestration.integrity.dvc_cache import Cache
from pipeline.orchestration.integrity.findings import Finding
from pipeline.orchestration.integrity.on_disk import Disk
from pipeline.orchestration.integrity.outs import faults, lock_here, outs_of
from tests.faults import damage, tiny
from tests.faults.campaign import Campaign, Scene


@dataclass(frozen=True)
class Kind:
    """Of file."""

    name: str
    files: str
    """In the project."""
    findings: Callable[[Path], list[Finding]]
    """Of a project's folder: everything that is not as it should be."""
    beside: tuple[str, ...] = ()
    """What must be there to judge by."""
    means: Callable[[Path], object] = Path.read_bytes
    """What of a file anybody reads."""


def trial(scene: Scene, kind: Kind, faults: tuple[damage.Do, ...]) -> str | None:
    """Damage one file in a copy of it and of what it is judged by."""
    for name in kind.beside:
        shutil.copy(scene.shared / name, scene.folder / name)
    chosen = scene.rng.choice(sorted(path for path in scene.shared.glob(kind.files) if path.is_file()))
    copy = scene.folder / chosen.relative_to(scene.shared)
    copy.parent.mkdir(parents=True)
    shutil.copy(chosen, copy)
    copy.chmod(0o644)  # DVC protects its objects
    done = scene.rng.choice(faults)(scene.rng, [copy])
    found = any(finding.path == copy for finding in kind.findings(scene.folder))
    return None if found or kind.means(copy) == kind.means(chosen) else f"{done}: silent"


def prepare(shared: Path) -> None:
    """What is damaged, of the clone in which the tiny profile has run."""
    root = tiny.made().root
    for name in ("dvc.lock", "data/metrics", "data/plots", "data/views", ".dvc/cache"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        (shared / name).parent.mkdir(parents=True, exist_ok=True)
        copy(root / name, shared / name)


def outs(root: Path) -> list[Finding]:
    """What the verdict finds of the outs that are there; a trial has but one."""
    disk, cache = Disk(), _cache(root)
    here = [out for out in outs_of(lock_here(root)) if os.path.lexists(root / out.path)]
    return [finding for out in here for finding in faults(root, out, disk, cache.listing)]


def cached(root: Path) -> list[Finding]:
    return list(_cache(root).findings())


def read_entry(path: Path) -> object:
    """What an entry of the run cache says, the sizes left out, which no hash covers; its bytes where it says nothing.

    A bit can flip in YAML and say the same: ``0.05`` becomes `` .05``.
    """
    try:
        return _less_sizes(YAML(typ="safe").load(path.read_bytes()))
    except (YAMLError, UnicodeDecodeError):
        return path.read_bytes()


def _less_sizes(value: Any) -> Any:
    if isinstance(value, list):
        return [_less_sizes(item) for item in value]
    if isinstance(value, dict):
        return {key: _less_sizes(item) for key, item in value.items() if key not in ("size", "nfiles")}
    return value


def _cache(root: Path) -> Cache:
    return Cache(root / ".dvc" / "cache", Disk())


KINDS = (
    Kind("metrics", "data/metrics/*.json", outs, ("dvc.lock",)),
    Kind("plots", "data/plots/*.csv", outs, ("dvc.lock",)),
    Kind("views", "data/views/*.json", outs, ("dvc.lock",)),
    Kind("dvc-cache", ".dvc/cache/files/md5/*/*", cached),
    Kind("dvc-run-cache", ".dvc/cache/runs/*/*/*", cached, means=read_entry),
)
LARGER = tuple(do for do in damage.LARGER if do is not damage.remove)
"""A file that is gone can't be looked at; ``verify`` tells it where dvc.lock names it."""


def campaigns(kind: Kind) -> list[Campaign]:
    """Flips of a kind, and larger damage."""
    return [
        Campaign(
            f"flips-{kind.name}",
            f"a flipped bit in {kind.name} is found by verify and the verdict",
            full=1000,
            selection=100,
            trial=partial(trial, kind=kind, faults=(damage.flip,)),
            prepare=prepare,
        ),
        Campaign(
            f"damage-{kind.name}",
            f"files of {kind.name} that are cut, longer, blanked or turned are found by verify and the verdict",
            full=250,
            selection=25,
            trial=partial(trial, kind=kind, faults=LARGER),
            prepare=prepare,
        ),
    ]


CAMPAIGNS = [campaign for kind in KINDS for campaign in campaigns(kind)]

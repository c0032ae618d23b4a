"""Did this run give the bytes that the commit records, and do they lie on disk?

First every out is hashed as it lies on disk now, whatever DVC remembers of it, and held against the working tree's
dvc.lock (`integrity.outs`): a bit that rotted since a stage wrote it, or in the cache that gave it back, is damage.

Then dvc.lock itself is held against the last commit's.  A stage is comparable where both name the same command,
parameters and inputs; if its outputs then differ, something was not reproduced.  On another *machine class* (other
versions, thread count or arithmetic; `gptcore.runtime`) trained weights may differ in their last bits, data must not.

A stage whose bytes must be equal everywhere says so in dvc.yaml: ``meta: {every_machine: true}``.  The recorded class
is in the metrics of whichever stage states one, which are in git; the class here is what such a stage noted when it
ran here, else it is measured.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcore.errors import DataError
from pipeline.orchestration import dvc_files, dvc_graph
from pipeline.orchestration.dvc_files import LOCK
from pipeline.orchestration.integrity.commit import at_head, git
from pipeline.orchestration.integrity.dvc_cache import Cache
from pipeline.orchestration.integrity.findings import REPAIR, Finding
from pipeline.orchestration.integrity.on_disk import Disk
from pipeline.orchestration.integrity.outs import faults, lock_here, outs_of, read_lock

METRICS, PROVENANCE = "data/metrics", "data/.provenance"
EVERY_MACHINE = "every_machine"
"""In a stage's ``meta`` of dvc.yaml: whether its bytes must be equal on every machine."""
UNKNOWN = "unknown"
DIFFERS, DAMAGED = 1, DataError.exit_code
MOST_TOLD = 8
"""Of damaged files, in the verdict; ``verify`` tells all."""


@dataclass(frozen=True)
class Verdict:
    """What to tell, and whether the promise was kept."""

    text: str
    code: int = 0
    """For the shell: 0, ``DIFFERS`` or ``DAMAGED``."""

    @property
    def kept(self) -> bool:
        return self.code == 0


def verdict(root: Path) -> Verdict:
    """Look at every out on disk, then compare the working tree's dvc.lock with the last commit's."""
    after = lock_here(root)
    if damage := damaged_outs(root, after, Disk()):
        return _told(root, damage)
    recorded = at_head(root, LOCK)
    if not recorded or not after:
        return Verdict("Nothing to compare with yet: commit dvc.lock and data/metrics; the next run is checked.")
    before = read_lock(recorded, f"HEAD:{LOCK}")
    changed = [name for name in after if name not in before or not _same_recipe(before[name], after[name])]
    differing = {
        name: outs for name in after if name not in changed and (outs := _differing(before[name], after[name]))
    }
    if differing:
        return _explain(root, differing)
    if changed:
        return Verdict(f"Not compared, for their recipe changed since the last commit: {', '.join(changed)}.")
    return Verdict(f"Same bytes: all {len(after)} stages gave what dvc.lock records (class {_class_here(root)}).")


def damaged_outs(root: Path, lock: dict[str, dict[str, Any]], disk: Disk) -> list[Finding]:
    """What of the outs that ``lock`` names is not on disk as it says, by file."""
    suspect = [out for out in outs_of(lock) if disk.md5(root / out.path) != out.md5]
    listing = Cache(dvc_graph.cache_folder(root), disk).listing if suspect else lambda md5: None
    return [finding for out in suspect for finding in faults(root, out, disk, listing)]


def _told(root: Path, damage: list[Finding]) -> Verdict:
    lines = [finding.line(root) for finding in damage[:MOST_TOLD]]
    if len(damage) > MOST_TOLD:
        lines.append(f"and {len(damage) - MOST_TOLD} more")
    told = "\n  ".join(["NOT THE BYTES THAT THE STAGES WROTE: what lies on disk differs from dvc.lock:", *lines])
    return Verdict(f"{told}\nTo make it again: `{REPAIR}`", DAMAGED)


def _explain(root: Path, differing: dict[str, list[str]]) -> Verdict:
    recorded, here = _recorded_class(root), _class_here(root)
    another_class = recorded not in (UNKNOWN, here)
    if another_class and not any(_is_same_everywhere(root, stage) for stage in differing):
        return Verdict(f"Data equal; trained outputs differ: machine class {recorded} (recorded) ≠ {here} (here).")
    outs = ", ".join(out for found in differing.values() for out in found)
    return Verdict(
        f"NOT REPRODUCED: with the same command, parameters and inputs these outputs differ from dvc.lock: {outs} "
        f"(machine class recorded {recorded}, here {here}).",
        DIFFERS,
    )


def _same_recipe(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Equal command, parameters and inputs, and the same names of outputs."""
    same = all(before.get(key) == after.get(key) for key in ("cmd", "params", "deps"))
    return same and _hashes(before).keys() == _hashes(after).keys()


def _differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The outputs whose hashes differ."""
    recorded = _hashes(before)
    return [path for path, found in _hashes(after).items() if recorded[path] != found]


def _hashes(stage: dict[str, Any]) -> dict[str, Any]:
    return {out["path"]: out.get("md5") for out in stage["outs"]}


def _is_same_everywhere(root: Path, stage: str) -> bool:
    entry = dvc_files.wiring(root).get(stage.partition("@")[0], {})
    return bool((entry.get("meta") or {}).get(EVERY_MACHINE))


def _recorded_class(root: Path) -> str:
    """What the last commit's metrics state."""
    listed = git(root, "ls-tree", "--name-only", "HEAD", f"{METRICS}/").split()
    return _first_class(at_head(root, path) for path in sorted(listed))


def _class_here(root: Path) -> str:
    """What a stage noted when it ran here, else measured."""
    records = sorted((root / PROVENANCE).glob("*.json"))
    if (found := _first_class(path.read_text(encoding="utf-8") for path in records)) != UNKNOWN:
        return found
    from gptcore import runtime
    from gptcore.machine.identity import machine_class

    runtime.configure()
    return machine_class()


def _first_class(records: Iterable[str]) -> str:
    return next(filter(None, map(_class_of, records)), UNKNOWN)


def _class_of(record: str) -> str:
    """The machine class that a metrics or provenance file states; empty where it states none."""
    try:
        return str(json.loads(record)["machine_class"] or "")
    except (ValueError, KeyError, TypeError):
        return ""

"""Did this run give the bytes that the commit records, and do they lie on disk?

First every out is hashed as it lies on disk now, whatever DVC remembers of it, and held against the working tree's
dvc.lock (`integrity.outs`): a bit that rotted since a stage wrote it, or in the cache that gave it back, is damage.

Then, where a record (`integrity.records`) was made with the same parameters and data, everything is held against that,
file by file, tensor by tensor, whether or not the code is another.  Where there is none, dvc.lock is held against the
last commit's: a stage is comparable where both name the same command, parameters and inputs.

On another *machine class* (other versions, thread count or arithmetic; `gptcore.runtime`) trained weights may differ in
their last bits, data must not.  A stage whose bytes must be equal everywhere says so in dvc.yaml:
``meta: {every_machine: true}``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcore.errors import DataError
from pipeline.git import at_head
from pipeline.orchestration import dvc_files, dvc_graph
from pipeline.orchestration.dvc_files import LOCK
from pipeline.orchestration.integrity import records
from pipeline.orchestration.integrity.dvc_cache import Cache
from pipeline.orchestration.integrity.findings import REPAIR, Finding
from pipeline.orchestration.integrity.machine import UNKNOWN, class_at_head, class_here
from pipeline.orchestration.integrity.on_disk import Disk
from pipeline.orchestration.integrity.outs import faults, in_order, lock_here, outs_of, read_lock
from pipeline.orchestration.integrity.records import Difference, Record

EVERY_MACHINE = "every_machine"
"""In a stage's ``meta`` of dvc.yaml: whether its bytes must be equal on every machine."""
DIFFERS, DAMAGED = 1, DataError.exit_code
MOST_TOLD = 8
"""Of damaged files, in the verdict; ``verify`` tells all."""

Lock = dict[str, dict[str, Any]]


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
    """Look at every out on disk, then compare with the record of these parameters, or with the last commit."""
    lock, disk = lock_here(root), Disk()
    if damage := damaged_outs(root, lock, disk):
        return _told(root, damage)
    if lock and (record := record_of(root, lock)):
        return _against_record(root, record, lock, disk)
    return _against_commit(root, lock)


def damaged_outs(root: Path, lock: Lock, disk: Disk) -> list[Finding]:
    """What of the outs that ``lock`` names is not on disk as it says, by file."""
    suspect = [out for out in outs_of(lock) if disk.md5(root / out.path) != out.md5]
    listing = Cache(dvc_graph.cache_folder(root), disk).listing if suspect else lambda md5: None
    return [finding for out in suspect for finding in faults(root, out, disk, listing)]


def record_of(root: Path, lock: Lock) -> Record | None:
    """The record that was made with the parameters and data that ``lock`` names."""
    return next((record for record in records.load_all(root) if record.is_of(root, lock)), None)


def _told(root: Path, damage: list[Finding]) -> Verdict:
    lines = [finding.line(root) for finding in damage[:MOST_TOLD]]
    if len(damage) > MOST_TOLD:
        lines.append(f"and {len(damage) - MOST_TOLD} more")
    told = "\n  ".join(["NOT THE BYTES THAT THE STAGES WROTE: what lies on disk differs from dvc.lock:", *lines])
    return Verdict(f"{told}\nTo make it again: `{REPAIR}`", DAMAGED)


# --- against the record of these parameters ---


def _against_record(root: Path, record: Record, lock: Lock, disk: Disk) -> Verdict:
    found = list(records.differences(record, root, lock, in_order(lock), disk))
    here = class_here(root, [difference.stage for difference in found])
    if record.machine_class != here:
        everywhere = [d for d in found if _is_same_everywhere(root, d.stage) and not d.same_content]
        if found and not everywhere:
            return _another_class(record.machine_class, here)
        found = everywhere
    if found:
        return _differs(record, found, here)
    unrecorded = sorted(lock.keys() - record.stages.keys())
    more = f" Not recorded: {', '.join(unrecorded)}." if unrecorded else ""
    equal = f"all {len(record.stages)} stages gave the {record.size} that {record.path} records"
    return Verdict(f"Same bytes: {equal} (class {here}).{more}")


def _differs(record: Record, found: Sequence[Difference], here: str) -> Verdict:
    stages = list(dict.fromkeys(difference.stage for difference in found))
    return Verdict(
        f"NOT REPRODUCED: with the same parameters and data, {len(found)} file(s) differ from {record.path}.\n"
        f"First difference: {found[0]}.\n"
        f"Stages that differ: {', '.join(stages)} (machine class recorded {record.machine_class}, here {here}).\n"
        f"If that is on purpose, record it anew: `python -m pipeline record --profile {record.profile}`",
        DIFFERS,
    )


def _another_class(recorded: str, here: str) -> Verdict:
    return Verdict(f"Data equal; trained outputs differ: machine class {recorded} (recorded) ≠ {here} (here).")


# --- against the last commit ---


def _against_commit(root: Path, after: Lock) -> Verdict:
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
    return Verdict(f"Same bytes: all {len(after)} stages gave what dvc.lock records (class {class_here(root)}).")


def _explain(root: Path, differing: dict[str, list[str]]) -> Verdict:
    recorded, here = class_at_head(root), class_here(root, differing)
    another_class = recorded not in (UNKNOWN, here)
    if another_class and not any(_is_same_everywhere(root, stage) for stage in differing):
        return _another_class(recorded, here)
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
    return {out["path"]: out.get("md5") for out in stage.get("outs", [])}


def _is_same_everywhere(root: Path, stage: str) -> bool:
    entry = dvc_files.wiring(root).get(stage.partition("@")[0], {})
    return bool((entry.get("meta") or {}).get(EVERY_MACHINE))

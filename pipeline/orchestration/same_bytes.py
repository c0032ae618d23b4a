"""Did this run give the bytes that the commit records?

``dvc.lock`` in git is the record.  After a run the working tree has a new one.  A stage is comparable where both
name the same command, parameters and inputs; if its outputs then differ, something was not reproduced.  On
another *machine class* (other versions, thread count or arithmetic; `gptcore.runtime`) trained weights may
differ in their last bits, data must not.

A stage whose bytes must be equal everywhere says so in dvc.yaml: ``meta: {every_machine: true}``.  The recorded class
is in the metrics of whichever stage states one, which are in git; the class here is what such a stage noted when it
ran here, else it is measured.
"""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.orchestration import dvc_files
from pipeline.orchestration.dvc_files import LOCK

METRICS, PROVENANCE = "data/metrics", "data/.provenance"
EVERY_MACHINE = "every_machine"
"""In a stage's ``meta`` of dvc.yaml: whether its bytes must be equal on every machine."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """What to tell, and whether the promise was kept."""

    text: str
    kept: bool


def verdict(root: Path) -> Verdict:
    """Compare the working tree's dvc.lock with the last commit's."""
    recorded = _at_head(root, LOCK)
    if not recorded or not (root / LOCK).exists():
        return Verdict("Nothing to compare with yet: commit dvc.lock and data/metrics; the next run is checked.", True)
    before = dvc_files.recorded(recorded)
    after = dvc_files.recorded((root / LOCK).read_text(encoding="utf-8"))
    changed = [name for name in after if name not in before or not _same_recipe(before[name], after[name])]
    differing = {
        name: outs for name in after if name not in changed and (outs := _differing(before[name], after[name]))
    }
    if differing:
        return _explain(root, differing)
    if changed:
        return Verdict(f"Not compared, for their recipe changed since the last commit: {', '.join(changed)}.", True)
    return Verdict(f"Same bytes: all {len(after)} stages gave what dvc.lock records (class {_class_here(root)}).", True)


def _explain(root: Path, differing: dict[str, list[str]]) -> Verdict:
    recorded, here = _recorded_class(root), _class_here(root)
    another_class = recorded not in (UNKNOWN, here)
    if another_class and not any(_is_same_everywhere(root, stage) for stage in differing):
        return Verdict(
            f"Data equal; trained outputs differ: machine class {recorded} (recorded) ≠ {here} (here).", True
        )
    outs = ", ".join(out for found in differing.values() for out in found)
    return Verdict(
        f"NOT REPRODUCED: with the same command, parameters and inputs these outputs differ from dvc.lock: {outs} "
        f"(machine class recorded {recorded}, here {here}).",
        False,
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
    listed = _git(root, "ls-tree", "--name-only", "HEAD", f"{METRICS}/").split()
    return _first_class(_at_head(root, path) for path in sorted(listed))


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
    classes = (json.loads(record).get("machine_class") for record in records if record)
    return next((str(found) for found in classes if found), UNKNOWN)


def _at_head(root: Path, path: str) -> str:
    return _git(root, "show", f"HEAD:{path}")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""

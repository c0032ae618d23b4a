"""Did this run give the bytes that the commit records?

``dvc.lock`` in git is the record.  After a run the working tree has a new one.  A stage is comparable where both
name the same command, parameters and inputs; if its outputs then differ, something was not reproduced.  On
another *machine class* (other versions, thread count or arithmetic; `gptcore.runtime`) trained weights may
differ in their last bits, data must not.

The recorded class is in ``data/metrics/pretrain.json``, which is in git; the class here is what pretraining
recorded when it ran here, else it is measured.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

LOCK, METRICS = "dvc.lock", "data/metrics/pretrain.json"
PROVENANCE = "data/.provenance/pretrain.json"
DATA_STAGES = ("download", "tokenizer", "tokenize", "windows")
"""Stages whose bytes must be equal on every machine."""
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
    before, after = _stages(recorded), _stages((root / LOCK).read_text(encoding="utf-8"))
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
    recorded, here = _machine_class(_at_head(root, METRICS)), _class_here(root)
    if UNKNOWN != recorded != here and not set(differing) & set(DATA_STAGES):
        return Verdict(
            f"Data equal; trained outputs differ: machine class {recorded} (recorded) ≠ {here} (here).", True
        )
    outs = ", ".join(out for found in differing.values() for out in found)
    return Verdict(
        f"NOT REPRODUCED: with the same command, parameters and inputs these outputs differ from dvc.lock: {outs} "
        f"(machine class recorded {recorded}, here {here}).",
        False,
    )


def _stages(lock: str) -> dict[str, Any]:
    return dict((YAML(typ="safe").load(lock) or {}).get("stages", {}))


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


def _class_here(root: Path) -> str:
    path = root / PROVENANCE
    if path.exists() and (found := _machine_class(path.read_text(encoding="utf-8"))) != UNKNOWN:
        return found
    from gptcore import runtime

    runtime.configure()
    return runtime.machine_class()


def _machine_class(record: str) -> str:
    return str(json.loads(record).get("machine_class", UNKNOWN)) if record else UNKNOWN


def _at_head(root: Path, path: str) -> str:
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=root, capture_output=True, text=True, check=False)
    return shown.stdout if shown.returncode == 0 else ""

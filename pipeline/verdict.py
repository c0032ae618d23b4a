"""Did this run give the bytes that the commit records?

``dvc.lock`` in git is the record.  After a run the working tree has a new one.  A stage is comparable
where both name the same command, parameters and inputs; if its outs then differ, something was not
reproduced.  On another *machine class* (other versions, thread count or arithmetic; `gptcore.runtime`)
trained weights may differ in their last bits, data must not.

The recorded class is in ``data/metrics/pretrain.json``, which is in git too.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

LOCK, METRICS = "dvc.lock", "data/metrics/pretrain.json"
DATA_STAGES = ("download", "tokenizer", "tokenize", "windows")
"""Stages whose bytes must be equal on every machine."""


@dataclass(frozen=True)
class Verdict:
    """What to tell, and whether the promise was kept."""

    text: str
    kept: bool


def verdict(root: Path) -> Verdict:
    """Compare the working tree's dvc.lock with the last commit's."""
    recorded = _at_head(root, LOCK)
    if not recorded or not (root / LOCK).exists():
        return Verdict(
            "Nothing to compare with yet: commit dvc.lock and data/metrics, and the next run is checked.", True
        )
    before, after = _stages(recorded), _stages((root / LOCK).read_text(encoding="utf-8"))
    differing = [
        name
        for name in after
        if name in before and _same_recipe(before[name], after[name]) and _outs_differ(before[name], after[name])
    ]
    same = [name for name in after if name in before and before[name] == after[name]]
    if len(same) == len(after):
        return Verdict(
            f"Same bytes: all {len(same)} stages gave what dvc.lock records (machine class {_class_here(root)}).", True
        )
    if not differing:
        changed = ", ".join(name for name in after if name not in same)
        return Verdict(f"Not compared, for the recipe changed since the last commit: {changed}.", True)
    return _explain(root, differing, before, after)


def _explain(root: Path, differing: list[str], before: dict[str, Any], after: dict[str, Any]) -> Verdict:
    recorded, here = _recorded_class(root), _class_here(root)
    outs = ", ".join(
        out["path"]
        for name in differing
        for old, out in zip(before[name]["outs"], after[name]["outs"], strict=True)
        if _out_hash(old) != _out_hash(out)
    )
    if recorded != here and not set(differing) & set(DATA_STAGES):
        return Verdict(
            f"Data equal; trained outputs differ: machine class {recorded} (recorded) ≠ {here} (here).", True
        )
    return Verdict(
        f"NOT REPRODUCED: with the same command, parameters and inputs these outputs differ from dvc.lock: {outs} "
        f"(machine class recorded {recorded}, here {here}).",
        False,
    )


def _stages(lock: str) -> dict[str, Any]:
    return dict((YAML(typ="safe").load(lock) or {}).get("stages", {}))


def _same_recipe(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return all(before.get(key) == after.get(key) for key in ("cmd", "params", "deps"))


def _outs_differ(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Metrics are left out: they hold the machine class, and follow from the other outs."""
    return [_out_hash(o) for o in before["outs"] if not _is_metric(o)] != [
        _out_hash(o) for o in after["outs"] if not _is_metric(o)
    ]


def _is_metric(out: dict[str, Any]) -> bool:
    return str(out["path"]).startswith("data/metrics/")


def _out_hash(out: dict[str, Any]) -> tuple[str, str | None]:
    return out["path"], out.get("md5")


def _recorded_class(root: Path) -> str:
    return _machine_class(_at_head(root, METRICS))


def _class_here(root: Path) -> str:
    path = root / METRICS
    return _machine_class(path.read_text(encoding="utf-8") if path.exists() else "")


def _machine_class(metrics: str) -> str:
    return str(json.loads(metrics).get("machine_class", "unknown")) if metrics else "unknown"


def _at_head(root: Path, path: str) -> str:
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=root, capture_output=True, text=True, check=False)
    return shown.stdout if shown.returncode == 0 else ""

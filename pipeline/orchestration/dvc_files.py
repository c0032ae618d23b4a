"""The files of DVC that we read or mend: what a stage depends on, what it recorded, its table of path locks."""

import json
import re
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import project
from pipeline.contract import plain_yaml
from pipeline.contract.source_code import VERSIONS

WIRING, LOCK, PARAMS = "dvc.yaml", "dvc.lock", "params.yaml"
CHOSEN = re.compile(r"\$\{(\w+)\.(\w+)\}")
"""All of a value in dvc.yaml: what stands there is the parameter ``section.name``."""


def wiring(root: Path) -> dict[str, dict[str, Any]]:
    """Stage → its entry in dvc.yaml, of a ``foreach`` the body; nothing where there is no such file."""
    return {name: dict(entry.get("do", entry)) for name, entry in _stages(root).items()}


def still_there(stages: Iterable[str], root: Path) -> set[str]:
    """Those of ``stages``, as DVC addresses them, that dvc.yaml has; all of them where there is no such file.

    A ``foreach`` over a parameter has what that lists: a stage that a profile switched on and another one off is not
    there any more.
    """
    known = _stages(root)
    return {stage for stage in stages if not known or _has(known, root, *stage.split("@", 1))}


def switched_off(root: Path) -> list[str]:
    """Outs of stages that a parameter has switched off; what lies there is of another time."""
    entries = [entry for entry in _stages(root).values() if "do" in entry and not _items(entry, root)]
    return [str(out) for entry in entries for out in entry["do"].get("outs", [])]


def _has(known: Mapping[str, Mapping[str, Any]], root: Path, name: str, item: str = "") -> bool:
    entry = known.get(name)
    if entry is None:
        return False
    items = _items(entry, root)
    return item in map(str, items) if isinstance(items, list | dict) else bool(item) == bool(items or "matrix" in entry)


def _items(entry: Mapping[str, Any], root: Path) -> Any:
    """What a ``foreach`` runs over, where it is a parameter its value."""
    items = entry.get("foreach", "")
    if not isinstance(items, str) or not (chosen := CHOSEN.fullmatch(items)):
        return items
    section = plain_yaml.read(root / PARAMS).get(chosen[1])
    return section.get(chosen[2], []) if isinstance(section, dict) else []


def _stages(root: Path) -> dict[str, dict[str, Any]]:
    path = root / WIRING
    return (YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}).get("stages", {}) if path.is_file() else {}


def code_dependencies(stage: str, root: Path) -> list[str]:
    """The source files and rooms that dvc.yaml names for ``stage``: what is Python, or the versions' lock."""
    names = [str(name) for name in wiring(root).get(stage, {}).get("deps", [])]
    return [name for name in names if is_code(name, root)]


def is_code(name: str, root: Path) -> bool:
    """Whether a dependency is source, or the versions' lock, rather than data."""
    return name == VERSIONS or name.endswith(".py") or _is_package(root / name)


def recorded(lock: str) -> dict[str, dict[str, Any]]:
    """Stage → what a dvc.lock of this content says of it."""
    return dict((YAML(typ="safe").load(lock) or {}).get("stages", {}))


def mend_lock_table() -> None:
    """Delete DVC's table of path locks if a killed DVC left it half-written; DVC itself refuses to start then.

    It is rewritten in place, so for an instant a living DVC's table looks the same: only one that stays broken goes.
    """
    table = project.root() / ".dvc" / "tmp" / "rwlock"
    for _ in range(5):
        try:
            json.loads(table.read_text(encoding="utf-8"))
            return
        except FileNotFoundError:
            return
        except ValueError:
            time.sleep(0.2)
    print(f"{table}: half-written by a killed run; deleted", file=sys.stderr)
    table.unlink(missing_ok=True)


def _is_package(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.py"))

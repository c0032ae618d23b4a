"""``python -m pipeline record``: the run that lies here becomes the record of its profile.

Only a whole run is recorded: every stage up to date, every byte on disk as its stage wrote it.  And only under the
profile whose values are in force: a record is found by its parameters, so one under a wrong name would serve, and
mislead whoever reads it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptcore.artifact import write_json
from gptcore.errors import DataError, ParameterError
from pipeline.contract import params
from pipeline.orchestration import dvc_graph, same_bytes
from pipeline.orchestration.integrity import records
from pipeline.orchestration.integrity.findings import REPAIR
from pipeline.orchestration.integrity.machine import class_here
from pipeline.orchestration.integrity.on_disk import Disk
from pipeline.orchestration.integrity.outs import lock_here
from pipeline.orchestration.integrity.records import Record

DEFAULT = "default"
"""The name of what params.yaml holds without any profile."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(\+[A-Za-z0-9][\w.-]*)*")


def record(root: Path, profile: str = DEFAULT) -> Record:
    """Write ``data/records/PROFILE.json``; raises ``DataError`` or ``ParameterError`` where that would be no record."""
    if not NAME.fullmatch(profile):
        raise ParameterError(f"profile {profile!r}: expected a name, or names joined by +")
    lock = lock_here(root)
    if unsettled := [node.name for node in dvc_graph.load_graph() if not node.settled]:
        raise DataError(f"nothing was recorded: not up to date: {', '.join(unsettled)}; run `make repro` first")
    if damage := same_bytes.damaged_outs(root, lock, Disk()):
        raise DataError(f"nothing was recorded: {damage[0].line(root)}; mend it first: `{REPAIR}`")
    in_force: dict[str, Any] = {}
    for stage in lock:
        in_force |= records.sections(lock, stage)
    _check_name(root, profile, in_force)
    made = records.make(root, lock, profile, class_here(root))
    write_json(root / made.path, made.plain())
    return made


def _check_name(root: Path, profile: str, in_force: Mapping[str, Any]) -> None:
    """Every profile that is named must be in force, and none may be where none is named."""
    overlays = {path.stem: params.read(path) for path in sorted((root / "profiles").glob("*.yaml"))}
    holding = {name for name, overlay in overlays.items() if overlay and _holds(in_force, overlay)}
    if profile == DEFAULT:
        if holding:
            names = "+".join(sorted(holding))
            raise ParameterError(f"the profile {names} is in force; expected none for {DEFAULT!r}: --profile {names}")
    elif missing := [name for name in profile.split("+") if name not in holding]:
        found = "+".join(sorted(holding)) or DEFAULT
        raise ParameterError(f"profile {missing[0]}: not in force (found {found}); run `make repro PROFILE={profile}`")


def _holds(values: Any, overlay: Any) -> bool:
    """Whether every value of the overlay is there."""
    if isinstance(overlay, Mapping):
        return isinstance(values, Mapping) and all(_holds(values.get(key), value) for key, value in overlay.items())
    return bool(values == overlay)

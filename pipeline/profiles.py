"""Overlays of params.yaml: ``profiles/NAME.yaml`` holds only what differs.

A profile becomes ``dvc exp run -S section.field=value …``, which is DVC's own way to run with other
parameters: the overlay is applied to params.yaml, the run is an experiment (``dvc exp show``), and ``git
checkout params.yaml`` goes back.
"""

import json
from pathlib import Path
from typing import Any

from gptcore.errors import ParameterError
from pipeline import params


def overrides(profile: str, directory: Path = Path("profiles")) -> list[str]:
    """The profile's values as ``section.field=value``, in the grammar of ``dvc exp run -S``."""
    path = directory / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in directory.glob("*.yaml"))) or "none"
        raise ParameterError(f"profile {profile!r}: {path} is missing; expected one of: {known}")
    return [f"{name}={_value(value)}" for name, value in _leaves(params.read(path))]


def _leaves(section: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in section.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + str(key), value)]
    return found


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)

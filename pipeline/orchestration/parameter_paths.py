"""Paths that params.yaml chooses: each must be there, or be made by a stage, before anything runs.

A dep of dvc.yaml that is nothing but ``${section.name}`` is such a path.  DVC asks for it too, but only when it comes
to the stage, with exit code 255 and without the name of the parameter.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gptcore.errors import ParameterError
from pipeline.contract import params
from pipeline.contract.source_code import covers
from pipeline.orchestration import dvc_files


def check(root: Path) -> None:
    """Raise one ``ParameterError`` with every chosen path that is neither there nor made by a stage."""
    file = root / params.PARAMS_FILE
    stages = dvc_files.wiring(root)
    made = [str(out).partition("/${")[0] for entry in stages.values() for out in entry.get("outs", [])]
    wrong = [
        f"{name} = {path!r}: expected a path that is there or that a stage makes; found none; correct it in {file.name}"
        for name, path in _chosen(stages, params.read(file) if stages else {})
        if not covers(made, os.path.normpath(path)) and not os.path.exists(os.path.join(root, path))
    ]
    if wrong:
        raise ParameterError("\n".join(wrong))


def _chosen(stages: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name of the parameter, path); what is no text, the parameters' own check refuses."""
    deps = {dep for entry in stages.values() for dep in entry.get("deps", []) if isinstance(dep, str)}
    for dep in sorted(deps):
        if match := dvc_files.CHOSEN.fullmatch(dep):
            values = document.get(match[1])
            path = values.get(match[2]) if isinstance(values, dict) else None
            if isinstance(path, str):
                yield f"{match[1]}.{match[2]}", path

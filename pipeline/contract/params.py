"""``params.yaml`` as checked dataclasses: every error at once, before any work.

The file has one section per dataclass.  A stage's own section has the stage's name and fills its parameter
``cfg``; a section that several stages share (``model``) fills the parameter of that name.  The dataclasses
live with the code that uses them; this module asks the stages' signatures which there are, so no list of
sections exists twice.

pydantic parses strictly (no "3" for 3, no unknown keys); a dataclass's own ``__post_init__`` adds the
ranges.  The YAML reader is DVC's (YAML 1.2: ``1e-3`` is a number), so that both see the same values.
"""

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gptcore.errors import ParameterError
from pipeline.contract.stage import STAGES, configs, function_of, section, sections

PARAMS_FILE = Path("params.yaml")


def load_stage(stage: str, path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Parameter name of the stage's function → its dataclass, filled from ``path``."""
    document = read(path)
    wanted = configs(function_of(stage))
    problems, filled = _fill(document, {section(stage, name): kind for name, kind in wanted.items()}, path)
    if problems:
        raise ParameterError(_message(path, problems))
    return {name: filled[section(stage, name)] for name in wanted}


def check_all(path: Path = PARAMS_FILE) -> None:
    """Raise one ``ParameterError`` with every wrong, unknown and missing parameter of all stages."""
    document = read(path)
    known: dict[str, type] = {}
    for stage in STAGES.names():
        known |= sections(stage)
    problems = [f"{name}: unknown section; expected {', '.join(known)}" for name in document if name not in known]
    in_order = {name: known[name] for name in [*document, *known] if name in known}  # as the file has them
    problems += _fill(document, in_order, path)[0]
    if problems:
        raise ParameterError(_message(path, problems))


def read(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The file as plain dictionaries; refuses what is no YAML mapping."""
    try:
        document = YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path}: missing; run the command in the project's folder") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ParameterError(f"{path}: expected sections, found {type(document).__name__}")
    return document


def _fill(document: dict[str, Any], kinds: Mapping[str, type], path: Path) -> tuple[list[str], dict[str, Any]]:
    problems: list[str] = []
    filled = {}
    for name, kind in kinds.items():
        values = document.get(name)
        if not isinstance(values, dict):
            found = "nothing" if values is None else type(values).__name__
            problems.append(f"{name}: expected a section with {_field_names(kind)}; found {found}")
            continue
        try:
            filled[name] = _adapter(kind).validate_json(json.dumps(values))
        except ValidationError as error:
            problems += [_problem(name, kind, fault) for fault in error.errors()]
        except TypeError as error:
            problems.append(f"{name}: {error}")
    return problems, filled


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """A strict parser for ``kind``; the configuration sits on a subclass to keep the library free of pydantic."""
    strict = {"__pydantic_config__": ConfigDict(extra="forbid", strict=True)}
    return TypeAdapter(type(kind.__name__, (kind,), strict))


def _problem(section: str, kind: type, fault: Any) -> str:
    where = ".".join([section, *map(str, fault["loc"])])
    if fault["type"] == "unexpected_keyword_argument":
        known = f"; expected {_field_names(kind)}" if len(fault["loc"]) == 1 else ""
        return f"{where}: unknown parameter{known}"
    if fault["type"] == "missing":
        return f"{where}: missing"
    message = fault["msg"].removeprefix("Value error, ")
    found = fault["input"] if not isinstance(fault["input"], dict | list) else None
    return f"{where}: {message[0].lower() + message[1:]}" + (f", found {found!r}" if found is not None else "")


def _field_names(kind: type) -> str:
    return ", ".join(field.name for field in dataclasses.fields(kind))


def _message(path: Path, problems: list[str]) -> str:
    return f"{path}: {len(problems)} problem(s); nothing was run:\n  " + "\n  ".join(problems)

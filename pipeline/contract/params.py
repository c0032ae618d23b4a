"""``params.yaml`` as checked dataclasses: every error at once, before any work.

The file has one section per dataclass.  A stage's own section has the stage's name and fills its parameter
``cfg``; a section that several stages share (``model``) fills the parameter of that name.  The dataclasses
live with the code that uses them; this module asks the stages' signatures which there are, so no list of
sections exists twice.

pydantic parses strictly (no "3" for 3, no unknown keys); what a field may hold stands beside it (`gptcore.ranges`).
Both are asked of every field, so that a wrong type hides no value that is out of range.
"""

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from gptcore import ranges
from gptcore.errors import ParameterError
from gptcore.ranges import OutOfRange, wrong
from pipeline.contract import plain_yaml, signature
from pipeline.contract.stage import STAGES, configs, function_of, section

PARAMS_FILE = Path("params.yaml")
MOST_TOLD = 30
"""Problems in a message: nobody reads more, and a hostile file has thousands."""

EXPECTED = {
    "bool_type": "true or false",
    "dataclass_type": "a section",
    "dict_type": "a section",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "string_type": "text",
}
"""pydantic's kinds of faults in our words."""


def load_stage(stage: str, path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Parameter name of the stage's function → its dataclass, filled from ``path``."""
    document = read(path)
    wanted = configs(function_of(stage))
    problems, filled = _fill(document, {section(stage, name): kind for name, kind in wanted.items()})
    if problems:
        raise ParameterError(_message(path, problems))
    return {name: filled[section(stage, name)] for name in wanted}


def check_all(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Section → its dataclass; raises one ``ParameterError`` with all that is wrong, unknown or missing in any."""
    return check_document(read(path), path)


def check_document(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same of what a file holds; messages call it ``path``."""
    known: dict[str, type] = {}
    for stage in STAGES.names():
        known |= signature.sections(stage)
    problems = [f"{name}: unknown section; expected {', '.join(known)}" for name in document if name not in known]
    in_order = {name: known[name] for name in [*document, *known] if name in known}  # as the file has them
    found, filled = _fill(document, in_order)
    if problems := problems + found:
        raise ParameterError(_message(path, problems))
    return filled


def read(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The file as plain dictionaries; refuses what is no YAML mapping of plain data."""
    return plain_yaml.read(path)


def _fill(document: dict[str, Any], kinds: Mapping[str, type]) -> tuple[list[str], dict[str, Any]]:
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
            problems += _explained(name, kind, values, error.errors())
    return problems, filled


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """A strict parser for ``kind``; the configuration sits on a subclass to keep the library free of pydantic."""
    strict = {"__pydantic_config__": ConfigDict(extra="forbid", strict=True)}
    return TypeAdapter(type(kind.__name__, (kind,), strict))


def _explained(section: str, kind: type, values: Mapping[str, Any], faults: Sequence[Any]) -> Iterator[str]:
    """Every problem of a section once: by its fields' rules, by what else pydantic found, then within its sections."""
    within = {name: inner for name, inner in _sections(kind).items() if isinstance(values.get(name), Mapping)}
    own = [fault for fault in faults if not (fault["loc"] and fault["loc"][0] in within)]
    ruled = ranges.rules(kind)
    unsure = {str(fault["loc"][0]) for fault in faults if fault["loc"]} - set(ruled)
    found = ranges.problems(kind, {name: values[name] for name in values if name in _names(kind)}, unsure)
    yield from (f"{section}.{problem}" for problem in found.values())
    for fault in own:
        told = str(fault["loc"][0]) in found if fault["loc"] else bool(found)
        if not told:
            yield from _in_words(section, kind, fault)
    for name, inner in within.items():
        inside = [{**fault, "loc": fault["loc"][1:]} for fault in faults if fault["loc"][:1] == (name,)]
        if inside:
            yield from _explained(f"{section}.{name}", inner, values[name], inside)


def _sections(kind: type) -> dict[str, type]:
    """The fields of a section that are sections themselves."""
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in _names(kind) if dataclasses.is_dataclass(hints[name])}


def _in_words(section: str, kind: type, fault: Any) -> Iterator[str]:
    where = ".".join([section, *map(str, fault["loc"])])
    reason = fault.get("ctx", {}).get("error")
    if isinstance(reason, OutOfRange):
        yield from (f"{where}.{problem}" for problem in reason.problems)
    elif fault["type"] == "unexpected_keyword_argument":
        known = f"; expected {_field_names(kind)}" if len(fault["loc"]) == 1 else ""
        yield f"{where}: unknown parameter{known}"
    elif fault["type"] == "missing":
        yield f"{where}: missing"
    elif expected := EXPECTED.get(fault["type"]) or fault.get("ctx", {}).get("expected"):
        yield wrong(where, fault["input"], expected)
    else:
        message = fault["msg"].removeprefix("Value error, ")
        yield f"{where}: {message[0].lower() + message[1:]}"


def _names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _field_names(kind: type) -> str:
    return ", ".join(_names(kind))


def _message(path: Path, problems: list[str]) -> str:
    told = problems[:MOST_TOLD] + ([f"… and {more} more"] if (more := len(problems) - MOST_TOLD) > 0 else [])
    return f"{path}: {len(problems)} problem(s); nothing was run:\n  " + "\n  ".join(told)

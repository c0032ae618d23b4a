"""A YAML file as sections of plain data: text, numbers, true, false, null, lists and mappings, and nothing else.

The reader is the one that DVC has (YAML 1.2: ``1e-3`` is a number), so that both see the same values.  Its parser is
written in C and composes nested nodes by recursion: a file of 100,000 brackets ends the process.  So the events, which
need no recursion, are counted first (1 ms).  Dates, sets, bytes, endless anchors and numbers of a thousand digits are
YAML, but no parameter is one.

Rejected: the same library's parser in Python, which survives brackets, takes six times as long and is another parser
than DVC's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from gptcore.errors import ParameterError

MAX_BYTES, MAX_DEPTH, MAX_ALIASES, MAX_BITS = 1_000_000, 32, 20, 1024
MAX_SCALARS = 10_000
"""Names and values: half a second to read and explain; our own file has three hundred."""


def read(path: Path) -> dict[str, Any]:
    """The file's mapping; raises ``ParameterError`` for anything that is not one."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ParameterError(f"{path}: missing; run the command in the project's folder") from None
    except OSError as error:
        raise ParameterError(f"{path}: can't be read ({error.strerror}); check owner and permissions") from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> dict[str, Any]:
    """The same of a file's content; messages call it ``path``."""
    if len(content) > MAX_BYTES:
        raise ParameterError(f"{path}: expected at most {MAX_BYTES:,} bytes, found {len(content):,}")
    try:
        text = content.decode("utf-8")
        _measure(text)
        document = YAML(typ="safe").load(text)
        plain = _plain(document, "the file")
    except Exception as error:  # each kind of scalar fails in its own way: a date in month 13, an !!int that is none
        raise ParameterError(f"{path}: not valid YAML: {_on_one_line(str(error))}") from None
    if not isinstance(plain, dict):
        raise ParameterError(f"{path}: expected sections, found {type(plain).__name__}")
    return plain


def _measure(text: str) -> None:
    """Refuse what would exhaust the stack (depth), the memory (anchors that multiply each other) or patience."""
    depth = aliases = scalars = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        aliases += isinstance(event, AliasEvent)
        scalars += isinstance(event, ScalarEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"expected at most {MAX_DEPTH} levels, found more (line {event.start_mark.line + 1})")
        if aliases > MAX_ALIASES:
            raise ValueError(f"expected at most {MAX_ALIASES} aliases, found more; write the values out")
        if scalars > MAX_SCALARS:
            raise ValueError(f"expected at most {MAX_SCALARS:,} names and values, found more")


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"{where}: holds itself")
    if isinstance(value, Mapping):
        names = {name: _name(name, where) for name in value}
        return {names[name]: _plain(each, _inside(where, names[name]), depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, where, depth + 1) for each in value]
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError(f"{where}: a number of more digits than any parameter has")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    found = f"{value} (a {type(value).__name__})"
    raise ValueError(f"{where}: expected text, a number or a list, found {found}; text goes between quotes")


def _name(name: Any, where: str) -> str:
    if not (isinstance(name, str) and name.isprintable()):
        raise ValueError(f"{where}: expected names that are printable text, found {name!r}"[:200])
    return name


def _on_one_line(message: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))


def _inside(where: str, name: str) -> str:
    return name if where == "the file" else f"{where}.{name}"

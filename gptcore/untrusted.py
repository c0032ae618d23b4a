"""What others wrote: read within bounds, and shown without effects.

A model directory, a vocabulary or a manifest may come from anywhere.  ``read_json`` gives its content or a
``ValueError`` that says in a clause what is wrong: too large, not UTF-8, not JSON, nested too deeply, a key twice, a
number that is none, no plain file (a FIFO would be waited for, a device never ends).  Size and number of values are
looked at before anything is parsed, because Python's objects are up to 24 times as large as the text that they
come from: at the largest limit in use a hostile file costs less than a second and 300 MB.

``shown`` and ``visible`` are for messages and terminals, where a text of others could move the cursor, set the
clipboard or fill the screen.

Rejected: a parser that streams (one more dependency, ten times slower on the files that are as they should be), and
a JSON schema (messages that nobody understands).
"""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

MB = 2**20
BYTES_PER_VALUE = 32
"""A file may have a value for each 32 bytes of its *limit*; the densest that we write has one in 20 of its size."""

_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def visible(text: str) -> str:
    """``text`` with every control character but newline and tab as an escape: ``\\x1b`` for ESC.

    Halves of surrogate pairs, which no terminal's encoding has, are escaped too.
    """
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def on_a_line(text: str) -> str:
    """``visible``, with newlines and tabs escaped too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def shown(value: Any, most: int = 60) -> str:
    """``repr(value)`` for a message: on one line, without control characters, at most ``most`` characters long."""
    try:
        text = visible(repr(value))
    except (ValueError, RecursionError):  # a whole number of thousands of digits, a list in a list in a list …
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def open_plain(path: Path) -> BinaryIO:
    """The plain file at ``path``, open for reading; raises ``ValueError`` for what is none or can't be read.

    ``FileNotFoundError`` and ``NotADirectoryError`` pass through: only the caller knows what should have been there.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("expected a plain file, found a directory, a pipe or a device")
        return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise ValueError(f"it can't be read ({error.strerror})") from None


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of the plain file at ``path``, which may have ``limit`` bytes; as ``open_plain`` otherwise."""
    with open_plain(path) as file:
        content = file.read(limit + 1)
        if len(content) > limit:
            size = os.fstat(file.fileno()).st_size
            raise ValueError(f"expected at most {limit // MB} MB, found {max(size, limit + 1):,} bytes")
    return content


def read_json(path: Path, limit: int = 8 * MB) -> Any:
    """What the JSON file at ``path`` holds; as ``read_bytes`` otherwise."""
    return parse_json(read_bytes(path, limit), limit)


def parse_json(content: bytes, limit: int) -> Any:
    """The value of a JSON text of at most ``limit`` bytes; raises ``ValueError`` with what is wrong, in a clause."""
    values, most = sum(content.count(sign) for sign in (b",", b"[", b"{")), limit // BYTES_PER_VALUE
    if values > most:
        raise ValueError(f"expected at most {most:,} values, found about {values:,}")
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8, found another byte at {error.start:,}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's keys and values; two programs could read different ones of a key that stands twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} stands twice")
    return fields


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")

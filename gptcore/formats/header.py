"""What a safetensors file says that it holds: names, shapes and number formats, before a tensor of it is read.

The file begins with a JSON header, and the library that reads it is strict about offsets, gaps and length.  It
reads headers of up to 100 MB, though, and takes the last of two tensors of one name; so the header is parsed here
first, within `untrusted.py`'s bounds.  Thirty thousand tensors fit into these.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from gptcore.errors import DataError
from gptcore.untrusted import MB, open_plain, parse_json, shown

LIMIT = 8 * MB
"""Of a header; GPT-2's has 15 kB."""


class Stored(NamedTuple):
    """A tensor as the header describes it."""

    dtype: str
    """In the format's words: F32, BF16, …"""
    shape: tuple[int, ...]


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, dict[str, Stored]]]:
    """The open file and its tensors by name; raises ``DataError`` for what is no safetensors file, whole to the byte.

    A tensor is read when it is asked for (``get_tensor``).
    """
    try:
        header = _header(path)
        file = safe_open(path, framework="pt")  # from here on the header's values are known to have their types
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: missing (older .bin weights are not read: they can run code)") from None
    except (SafetensorError, ValueError, OSError, RuntimeError) as error:  # the last: it can't be mapped
        raise DataError(f"{path}: damaged or not a safetensors file: {error}") from None
    with file:
        yield file, {name: Stored(fields["dtype"], tuple(fields["shape"])) for name, fields in header.items()}


def _header(path: Path) -> dict[str, Any]:
    with open_plain(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > LIMIT:
            raise ValueError(f"expected a header of at most {LIMIT // MB} MB, found one of {size:,} bytes")
        header = parse_json(file.read(size), LIMIT)
    if not isinstance(header, dict):
        raise ValueError(f"expected a header of names, found {shown(header)}")
    header.pop("__metadata__", None)
    return header

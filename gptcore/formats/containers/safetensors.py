"""What a model's safetensors say that they hold: names, shapes and number formats, before a tensor is read.

A directory has one file, or several with an index that says which tensor lies where.  A file begins with a JSON
header, and the library that reads it is strict about offsets, gaps and length.  It reads headers of up to 100 MB,
though, and takes the last of two tensors of one name; so the header is parsed here first, within `untrusted.py`'s
bounds.  Thirty thousand tensors fit into these.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from gptcore.errors import DataError
from gptcore.formats.containers import CONFIG_FILE, Container, Stored, Weights
from gptcore.untrusted import MB, open_plain, parse_json, read_json, shown

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
LIMIT = 8 * MB
"""Of a header; GPT-2's has 15 kB."""
MOST_FILES = 1_000
_SHARD = re.compile(r"[A-Za-z0-9][\w.-]{0,200}\.safetensors", re.ASCII)


@contextmanager
def opened(directory: Path) -> Iterator[Weights]:
    """The weights in ``directory``; raises ``DataError`` for what isn't whole to the byte."""
    path, index = directory / WEIGHTS_FILE, directory / INDEX_FILE
    with ExitStack() as stack:
        if path.exists() or not index.exists():
            file, stored = stack.enter_context(opened_file(path))
            yield Weights(path, stored, dict.fromkeys(stored, file))
            return
        places = _read_index(index)
        shards = {name: stack.enter_context(opened_file(directory / name)) for name in sorted(set(places.values()))}
        _compare(index, places, {name: set(stored) for name, (_, stored) in shards.items()})
        yield Weights(
            index,
            {name: shards[place][1][name] for name, place in places.items()},
            {name: shards[place][0] for name, place in places.items()},
        )


def files(directory: Path) -> list[Path]:
    """The files that ``opened`` reads, the index first; raises ``DataError`` for an index that is none."""
    if (directory / WEIGHTS_FILE).exists() or not (directory / INDEX_FILE).exists():
        return [directory / WEIGHTS_FILE]
    index = directory / INDEX_FILE
    return [index, *(directory / name for name in sorted(set(_read_index(index).values())))]


def stated_in(directory: Path) -> Path:
    """``config.json``."""
    return directory / CONFIG_FILE


def config_fields(directory: Path) -> Any:
    """What it holds."""
    path = directory / CONFIG_FILE
    try:
        return read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: missing; expected a model directory, an export or a checkpoint") from None
    except ValueError as error:
        raise DataError(f"{path}: expected a model's configuration in JSON: {error}") from None


def _read_index(path: Path) -> dict[str, str]:
    """Tensor → file."""
    try:
        fields = read_json(path, LIMIT)
    except ValueError as error:
        raise DataError(f"{path}: expected an index of weights in JSON: {error}") from None
    places = fields.get("weight_map") if isinstance(fields, dict) else None
    if not isinstance(places, dict) or not places:
        raise DataError(f"{path}: expected an object weight_map of tensors and their files, found {shown(places)}")
    names = set(map(str, places.values()))
    if wrong := [n for n in places.values() if not (isinstance(n, str) and _SHARD.fullmatch(n))]:
        raise DataError(f"{path}: expected names of safetensors files beside it, found {shown(wrong[0])}")
    if len(names) > MOST_FILES:
        raise DataError(f"{path}: expected at most {MOST_FILES:,} files, found {len(names):,}")
    return places


def _compare(index: Path, places: dict[str, str], held: dict[str, set[str]]) -> None:
    """Each tensor must be in the file that the index names, and in no other."""
    problems = [f"{shown(name)}: not in {file}" for name, file in places.items() if name not in held[file]]
    problems += [
        f"{shown(name)}: in {file}, of which the index knows nothing"
        for file, names in held.items()
        for name in sorted(names)
        if places.get(name) != file
    ]
    if problems:
        more = f"; … and {len(problems) - 5:,} more" if len(problems) > 5 else ""
        raise DataError(f"{index}: {'; '.join(problems[:5])}{more}")


@contextmanager
def opened_file(path: Path) -> Iterator[tuple[Any, dict[str, Stored]]]:
    """One open file, and its tensors by name."""
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


CONTAINER = Container(stated_in, config_fields, opened, files)

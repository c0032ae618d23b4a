"""Do two runs of the pipeline give the same bytes?  Everything that stages write, file by file, tensor by tensor.

    python -m benchmarks.same_outs record PROJECT > record.json      a project's folder after a run
    python -m benchmarks.same_outs compare ONE OTHER                 folders or records, in any mix

A record holds the sha256 of every file under ``data`` that a stage writes; of safetensors that of every tensor, of
JSON that of every value by its dotted name, so that a difference is told by the name of what differs.  ``compare``
prints each file that only one has and each that differs, and ends with exit code 1 if there is any.  Two machines
of one class (``machine_class`` in the metrics) must agree in everything; on another class the data must.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from gptcore.artifact import sha256_file

FOLDERS = ("raw", "tokenizer", "tokens", "windows", "checkpoints", "evaluation", "export", "metrics", "plots", "views")

MOST_VALUES = 200
"""A JSON file with more values, such as a vocabulary, is one part."""

Record = dict[str, dict[str, str]]
"""File, relative to ``data`` → what is in it by name → hash; a file without parts has one part, ``""``."""


def record(project: Path) -> Record:
    """What lies in ``project`` now."""
    data = project / "data"
    files = (path for folder in FOLDERS for path in sorted((data / folder).rglob("*")))
    return {
        path.relative_to(data).as_posix(): parts(path) for path in files if path.is_file() and path.name != ".gitignore"
    }


def parts(path: Path) -> dict[str, str]:
    if path.suffix == ".safetensors":
        return _tensors(path)
    if path.suffix == ".json":
        values = _values(json.loads(path.read_text(encoding="utf-8")))
        return values if len(values) <= MOST_VALUES else {"": sha256_file(path)}
    return {"": sha256_file(path)}


def differences(one: Record, other: Record) -> list[str]:
    """A line for each file that differs, with the names of the parts that do."""
    lines = []
    for path in sorted(one.keys() | other.keys()):
        if path not in one or path not in other:
            lines.append(f"{path}: only in {'the first' if path in one else 'the second'}")
            continue
        ours, theirs = one[path], other[path]
        if found := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
            shown = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
            lines.append(f"{path}: {shown or 'other bytes'}")
    return lines


def _tensors(path: Path) -> dict[str, str]:
    with safe_open(path, framework="numpy") as file:
        return {name: _tensor_hash(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def _tensor_hash(tensor: Any) -> str:
    return _hash(f"{tensor.shape}{tensor.dtype}".encode() + tensor.tobytes())


def _values(value: Any, name: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        inner = {f"{name}.{key}" if name else str(key): item for key, item in value.items()}
        return {found: digest for key, item in inner.items() for found, digest in _values(item, key).items()}
    return {name: _hash(json.dumps(value, sort_keys=True).encode())}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _load(place: Path) -> Record:
    return record(place) if place.is_dir() else json.loads(place.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    match arguments:
        case ["record", project]:
            print(json.dumps(record(Path(project)), indent=0, sort_keys=True))
            return 0
        case ["compare", one, other]:
            first, second = _load(Path(one)), _load(Path(other))
            found = differences(first, second)
            equal = len(first.keys() & second.keys()) - sum(": only in " not in line for line in found)
            print("\n".join([*found, f"{equal} files are equal, {len(found)} are not"]))
            return 1 if found else 0
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

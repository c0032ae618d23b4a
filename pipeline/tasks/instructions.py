"""``data/instructions.jsonl``: the one reader of the instruction data set.

Each line is a JSON object with exactly the keys ``instruction``, ``input``, ``output``, ``kind`` and ``split``,
all strings.  ``input`` may be empty; ``kind`` groups tasks that are solved in the same way.

The file is generated (`instruction_writer`) and may be replaced by anyone's own, so every line is checked,
those of the other splits included, and the first bad one is an error that names it.  Rejected: skipping and
counting bad lines, as is done for fetched corpora: whoever writes this file wants to know.  Ten thousand lines
take 30 ms.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gptcore.errors import DataError
from pipeline.store.splits import SPLITS


@dataclass(frozen=True)
class Instruction:
    """One line of the file."""

    instruction: str
    input: str
    """What the instruction is applied to; empty where it speaks for itself."""
    output: str
    kind: str
    split: str

    def __post_init__(self) -> None:
        for field in fields(self):
            if not isinstance(value := getattr(self, field.name), str):
                raise ValueError(f"{field.name}: expected a string, found {type(value).__name__}")
            if field.name != "input" and not value.strip():
                raise ValueError(f"{field.name}: expected text, found none")
        if self.split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, found {self.split!r}")


def read_instructions(path: Path, split: str) -> list[Instruction]:
    """The entries of one split, in the order of the file; at least one."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); restore it from git") from None
    entries = [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    chosen = [entry for entry in entries if entry.split == split]
    if not chosen:
        raise DataError(
            f"{path}: expected entries with split {split!r}, found none among {len(entries)} lines; add some"
        )
    return chosen


def _parse(line: bytes, where: str) -> Instruction:
    try:
        return Instruction(**_object(line))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: {error}; correct the line") from None


def _object(line: bytes) -> dict[str, Any]:
    """The line's JSON object, once it is sure that it has the right keys."""
    entry = json.loads(line.decode("utf-8"))
    expected = [field.name for field in fields(Instruction)]
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object with {', '.join(expected)}, found {type(entry).__name__}")
    if set(entry) != set(expected):
        raise ValueError(f"expected the keys {', '.join(expected)}, found {', '.join(entry) or 'none'}")
    return entry

"""``data/instructions.jsonl``: the one reader of the instruction data set.

Each line is a JSON object with exactly the keys ``instruction``, ``input``, ``output``, ``kind`` and ``split``,
all strings.  ``input`` may be empty; ``kind`` groups tasks that are solved in the same way.  A conversation has
``messages`` in place of the first three: turns with ``role`` and ``content``, first ``system`` if there is one, then
``user`` and ``assistant`` by turns.  Tuning learns every answer of the assistant; measured is the last one.

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
from gptcore.tokenizer import Message
from gptcore.untrusted import shown
from pipeline.corpus.utf8 import is_encodable
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
    history: tuple[Message, ...] = ()
    """The turns before, of a conversation."""

    @property
    def asked(self) -> str:
        """All that stands before the answer, as plain text."""
        return " ".join([*(message["content"] for message in self.history), self.instruction, self.input])

    def is_answered_by(self, text: str) -> bool:
        """To the letter, but for white space around it."""
        return text.strip() == self.output.strip()

    def __post_init__(self) -> None:
        for field in fields(self)[:5]:
            if not isinstance(value := getattr(self, field.name), str):
                raise ValueError(f"{field.name}: expected a string, found {type(value).__name__}")
            _check_text(value, field.name, may_be_empty=field.name == "input")
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
    expected = [field.name for field in fields(Instruction)[:5]]
    conversation = isinstance(entry, dict) and "messages" in entry
    if conversation:
        expected = ["messages", "kind", "split"]
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object with {', '.join(expected)}, found {type(entry).__name__}")
    if set(entry) != set(expected):
        raise ValueError(f"expected the keys {', '.join(expected)}, found {', '.join(entry) or 'none'}")
    return {**_last_turn(entry.pop("messages")), **entry} if conversation else entry


def _last_turn(messages: Any) -> dict[str, Any]:
    """A conversation as its last question, the answer to it and the turns before."""
    if not isinstance(messages, list) or len(messages) < 2:
        raise ValueError("messages: expected a list of two turns or more")
    starts = int(isinstance(messages[0], dict) and messages[0].get("role") == "system")
    for place, message in enumerate(messages):
        role = ("system", "user", "assistant")[0 if place < starts else 1 + (place - starts) % 2]
        _check_turn(message, role, f"messages, turn {place + 1}")
    if (len(messages) - starts) % 2 or len(messages) == starts:
        raise ValueError(f"messages: expected an assistant's turn at the end, found {messages[-1]['role']}")
    *history, asked, answered = messages
    return {"instruction": asked["content"], "input": "", "output": answered["content"], "history": tuple(history)}


def _check_turn(message: Any, role: str, where: str) -> None:
    if not isinstance(message, dict) or set(message) != {"role", "content"}:
        raise ValueError(f"{where}: expected an object with role and content")
    if message["role"] != role:
        raise ValueError(f"{where}: expected the role {role}, found {shown(message['role'])}")
    if not isinstance(message["content"], str):
        raise ValueError(f"{where}: expected content that is text")
    _check_text(message["content"], where)


def _check_text(text: str, where: str, may_be_empty: bool = False) -> None:
    if not (text.strip() or may_be_empty):
        raise ValueError(f"{where}: expected text, found none")
    if not is_encodable(text):
        raise ValueError(f"{where}: expected Unicode text, found half a surrogate pair (\\ud800 to \\udfff)")

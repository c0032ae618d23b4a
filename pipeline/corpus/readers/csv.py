"""Comma-separated values (RFC 4180): one document a row, named columns; the span is the text's cell.

The first row names the columns.  A cell that holds a comma, a quote or a line break stands in quotes, a quote in it
is written twice.  Whoever makes such a file wants to know what is wrong with it, and after a wrong quote nothing
in it is where it seems to be: so bad rows are not skipped but told together, by their lines, and the file is refused.
Blank lines are no rows.

Python's csv module says where a cell ends, in its strict mode; the bytes of a cell follow from the cell, for in
strict mode there is one way to quote it.  100 MB take 5 s of one core.  Rejected: pandas and pyarrow, which tell no
byte offsets and pad short rows (a test holds pandas as the oracle of the good rows), and a pattern of our own.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from gptcore.errors import DataError
from gptcore.untrusted import on_a_line, shown
from pipeline.corpus.readers import Row, Skipped
from pipeline.corpus.utf8 import read_text
from pipeline.store.raw import Layout
from pipeline.store.splits import SPLITS

LONGEST_CELL = 1 << 24
"""Characters: a long book has 4 million.  What is longer is a quote that was never closed."""
MOST_TOLD = 30
"""Bad rows in a message."""
HOPELESS = 10_000
"""Bad rows after which nobody looks at the rest."""
_IN_WORDS = {
    "expected after": "expected a comma or tab, or the row's end, after a closing quote; write a quote in a cell twice",
    "unexpected end": "expected a closing quote, found the end of the file",
    "field limit": f"expected at most {LONGEST_CELL:,} characters in a cell; is a quote never closed?",
}
"""Part of what the csv module says → ours."""


@dataclass
class _Record:
    """One row as it lies in the file."""

    line: int
    """Its first, counted from 1."""
    start: int
    """Its first byte."""
    raw: str
    cells: list[str]

    def place(self, column: int) -> tuple[int, int]:
        """First byte of a cell, with its quotes if it has some, and the byte after its last."""
        begin = end = -1
        for cell in self.cells[: column + 1]:
            begin = end + 1  # behind the delimiter
            quotes = cell.count('"') + 2 if self.raw.startswith('"', begin) else 0
            end = begin + len(cell) + quotes
        return self.start + len(self.raw[:begin].encode()), self.start + len(self.raw[:end].encode())


@dataclass
class _BadRows:
    """What is wrong, by line."""

    name: str
    layout: Layout
    count: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, line: int, problem: str) -> None:
        self.count += 1
        if self.count <= MOST_TOLD:
            self.told.append(f"line {line}: {problem}")
        if self.count == HOPELESS:
            self.refuse("; the rest was not looked at")

    def refuse(self, more: str = "") -> None:
        """Raise one error for all, if there is one."""
        if not self.count:
            return
        untold = [f"… and {self.count - MOST_TOLD} more{more}"] if self.count > MOST_TOLD else []
        declared = f" (labels: {shown(list(self.layout.labels), 300)})" if self.layout.labels else ""
        listed = "\n  ".join(self.told + untold)
        raise DataError(
            f"{self.name}: {self.count} bad row(s); correct them, or what params.yaml says of this source{declared}:"
            f"\n  {listed}"
        )


class Delimited:
    """Rows of cells with one character between them."""

    suffixes = ()  # a table is taken for text only where it is said which column holds it
    columns = True

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter

    def read(self, stream: BinaryIO, layout: Layout, name: str, skipped: Skipped) -> Iterator[Row]:
        content, head = read_text(stream, name)
        bad = _BadRows(name, layout)
        records = self._records(content, head, bad)
        names = next((record.cells for record in records if record.raw.strip()), [])
        bad.refuse()
        text_at, label_at, split_at = _columns(names, layout, name)
        for record in records:
            if not record.raw.strip():
                skipped.at("empty_row", f"line {record.line}")
            elif len(record.cells) != len(names):
                bad.add(record.line, f"expected {len(names)} cells, as in the first row, found {len(record.cells)}")
            else:
                label, split = (record.cells[at] if at is not None else "" for at in (label_at, split_at))
                if problem := _problem(label, split, layout):
                    bad.add(record.line, problem)
                else:
                    yield Row(*record.place(text_at), record.cells[text_at], label, split)
        bad.refuse()

    def text(self, content: bytes, layout: Layout) -> str:
        text = content.decode("utf-8")
        return text[1:-1].replace('""', '"') if text.startswith('"') else text

    def _records(self, content: bytes, head: int, bad: _BadRows) -> Iterator[_Record]:
        """The rows that can be told apart; adds the others to ``bad``."""
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))  # the whole process's: it may only grow
        taken: list[bytes] = []  # the lines of one row

        def lines() -> Iterator[str]:
            for line in content.splitlines(keepends=True):  # of bytes: at \n, \r\n and \r alone
                taken.append(line)
                yield line.decode("utf-8")

        rows = csv.reader(lines(), delimiter=self.delimiter, strict=True)
        line, start = 1, head
        while True:
            taken.clear()
            try:
                cells = next(rows)
                yield _Record(line, start, b"".join(taken).decode("utf-8"), cells)
            except csv.Error as error:
                bad.add(line, next((ours for theirs, ours in _IN_WORDS.items() if theirs in str(error)), str(error)))
            except StopIteration:
                return
            line, start = line + len(taken), start + sum(map(len, taken))


def _columns(names: list[str], layout: Layout, name: str) -> tuple[int, int | None, int | None]:
    """Where text, label and split stand in a row."""
    for column in filter(None, (layout.text_column, layout.label_column, layout.split_column)):
        if names.count(column) != 1:
            raise DataError(
                f"{name}: expected one column {column!r} in the first row, which names the columns, found "
                f"{shown(names, 300)}; correct params.yaml or the file{_other_delimiter(names)}"
            )
    label_at, split_at = (names.index(c) if c else None for c in (layout.label_column, layout.split_column))
    return names.index(layout.text_column), label_at, split_at


def _other_delimiter(names: list[str]) -> str:
    found = [sign for sign in ("\t", ",", ";", "|") if len(names) == 1 and sign in names[0]]
    return f" (is it separated by {on_a_line(found[0])}? `csv` is by commas, `tsv` by tabs)" if found else ""


def _problem(label: str, split: str, layout: Layout) -> str | None:
    if layout.labels and label not in layout.labels:
        return f"expected one of the labels, found {shown(label)}"
    if layout.split_column and split not in SPLITS:
        return f"expected {', '.join(SPLITS)} under {layout.split_column!r}, found {shown(split)}"
    return None


READER = Delimited(",")

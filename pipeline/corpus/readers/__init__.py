"""Formats of text, a module a format; a format of one's own is an entry point of this package's name.

A reader takes an open file and yields its documents, each with the bytes that it came from, so any token can be
traced to the raw file.  What makes a *file* unusable (not UTF-8, a NUL, a missing column, an undeclared label) is an
error that names the place.  What makes a *row* unusable is counted by reason and skipped, and the place of the
first is kept for the user.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from gptcore.errors import DataError
from gptcore.seams import Seam
from gptcore.untrusted import shown
from pipeline.store.raw import Layout
from pipeline.store.splits import SPLITS

READERS = Seam("pipeline.corpus.readers", "READER")


@dataclass(frozen=True, slots=True)
class Row:
    """One document as it lies in a file."""

    start: int
    """First byte of the document in the file."""
    end: int
    """The byte after its last."""
    text: str
    label: str = ""
    split: str = ""
    """What stands in ``layout.split_column``, where there is one."""


class Skipped(Counter[str]):
    """Reason → how many rows are no documents; a reader that knows the line of a row says ``at``, others count."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, str] = {}
        """Reason → where the first such row is."""

    def at(self, reason: str, place: str) -> None:
        self[reason] += 1
        self.first.setdefault(reason, place)


class Reader(Protocol):
    """One format: a member of this seam, as ``READER``."""

    suffixes: tuple[str, ...]
    """Ends of the names of files that a user drops into ``data/own``; empty: the format needs a declaration."""
    columns: bool
    """Whether the text lies in a named column or key."""

    def read(self, stream: BinaryIO, layout: Layout, name: str, skipped: Skipped) -> Iterator[Row]:
        """The documents of one file, which errors call ``name``; counts in ``skipped`` the rows that are none."""

    def text(self, content: bytes, layout: Layout) -> str:
        """The text of the document whose ``start`` … ``end`` are these bytes."""


def parse(stream: BinaryIO, layout: Layout, name: str, skipped: Skipped) -> Iterator[Row]:
    """Yield the documents of one file that have text."""
    reader: Reader = READERS[layout.format]
    for row in reader.read(stream, layout, name, skipped):
        if layout.split_column and row.split not in SPLITS:
            raise DataError(
                f"{name}, byte {row.start}: expected {', '.join(SPLITS)} under {layout.split_column!r}, found "
                f"{shown(row.split)}; correct the row"
            )
        if row.text.strip():
            yield row
        else:
            skipped.at("empty_text", f"byte {row.start}")

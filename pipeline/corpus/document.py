"""A document and where it came from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    source: str
    file: str
    """Relative to ``data/raw``."""
    index: int
    """Counts the documents of the source, from 0."""
    start: int
    """First byte of the document in the file."""
    end: int
    """The byte after its last."""
    text: str


@dataclass(frozen=True, slots=True)
class LabelledDocument(Document):
    label: str

"""CRLF becomes LF: the only change to a text."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.corpus.document import Document


def unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def line_ends(documents: Sequence[Document]) -> list[Document]:
    return [replace(d, text=unix(d.text)) if "\r\n" in d.text else d for d in documents]


STEP = line_ends

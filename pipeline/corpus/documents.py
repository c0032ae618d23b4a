"""The documents of ``data/raw``: every reader's rows under one name each, in a fixed order.

A document knows the bytes it came from: ``read_span`` gives its text again from file, start and end.
"""

from collections.abc import Iterator
from typing import Any

from gptcore.errors import DataError
from pipeline.corpus.document import Document, LabelledDocument
from pipeline.corpus.readers import READERS, Row, Skipped, parse
from pipeline.corpus.splits import labelled_split
from pipeline.corpus.steps import line_ends
from pipeline.store.raw import Raw, Source


def read_documents(raw: Raw) -> tuple[list[Document], dict[str, int]]:
    """All documents of the corpus in a fixed order, and how many rows were skipped for which reason."""
    skipped = Skipped()
    corpus = raw.having("corpus")
    documents = [Document(**where, text=row.text) for source in corpus for where, row in _rows(raw, source, skipped)]
    if not documents:
        raise DataError(f"{raw.path}: the corpus holds no text ({len(corpus)} sources); add a source to params.yaml")
    return documents, dict(skipped)


def read_labelled(raw: Raw, split: str, *, optional: bool = False) -> list[LabelledDocument]:
    """The labelled documents of one split, their line ends alike; at least one, but for an ``optional`` split."""
    sources = [source for source in raw.having("classification") if source.split in ("", split)]
    documents = [
        LabelledDocument(**where, text=line_ends.unix(row.text), label=row.label)
        for source in sources
        for where, row in _rows(raw, source, Skipped())
        if labelled_split(source, row.split, row.text) == split
    ]
    if not documents and not optional:
        raise DataError(
            f"{raw.path}: no labelled document is of the split {split!r}; add a source with `split: {split}` to "
            "download.sources in params.yaml, or rows to one"
        )
    return documents


def read_span(raw: Raw, file: str, start: int, end: int) -> str:
    """The text of the document that lies at these bytes, as ``read_documents`` gave it."""
    layout = next(source.layout for source in raw.entries if any(each.path == file for each in source.files))
    with open(raw.path / file, "rb") as stream:
        stream.seek(start)
        content = stream.read(end - start)
    return str(READERS[layout.format].text(content, layout))


def _rows(raw: Raw, source: Source, skipped: Skipped) -> Iterator[tuple[dict[str, Any], Row]]:
    index = 0
    for file in source.files:
        with open(raw.path / file.path, "rb") as stream:
            for row in parse(stream, source.layout, str(raw.path / file.path), skipped):
                where = {"source": source.name, "file": file.path, "index": index}
                yield {**where, "start": row.start, "end": row.end}, row
                index += 1

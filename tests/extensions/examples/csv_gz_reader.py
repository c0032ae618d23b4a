"""A reader of compressed CSV: a document a row, the text in a named column; the span counts unpacked bytes."""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from gptcore.errors import DataError
from pipeline.corpus.readers import Row
from pipeline.store.raw import Layout


class CsvGz:
    suffixes = (".csv.gz",)
    columns = True

    def read(self, stream: BinaryIO, layout: Layout, name: str, skipped: Counter[str]) -> Iterator[Row]:
        text = io.TextIOWrapper(gzip.GzipFile(fileobj=stream), encoding="utf-8", newline="")
        rows = csv.DictReader(text)
        if layout.text_column not in (rows.fieldnames or ()):
            raise DataError(f"{name}: expected a column {layout.text_column!r}, found {rows.fieldnames}")
        end = 0
        for row in rows:
            start, end = end, end + len((row[layout.text_column] or "").encode())
            yield Row(start, end, row[layout.text_column] or "", row.get(layout.label_column) or "")

    def text(self, content: bytes, layout: Layout) -> str:
        return content.decode("utf-8")


READER = CsvGz()

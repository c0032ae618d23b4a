"""JSON lines: one document a line, an object with the text under a key; the span is the line."""

import io
import json
from collections.abc import Iterator
from typing import BinaryIO

from gptcore.errors import DataError
from pipeline.corpus.readers import Row, Skipped
from pipeline.corpus.utf8 import check_label, is_encodable, numbered, read_text
from pipeline.store.raw import Layout

HOPELESS = 10_000
"""Lines without one document after which a file is refused, before a million of them are looked at."""


class JsonLines:
    suffixes = (".jsonl",)
    columns = True

    def read(self, stream: BinaryIO, layout: Layout, name: str, skipped: Skipped) -> Iterator[Row]:
        content, head = read_text(stream, name)
        found = False
        for number, (start, line) in enumerate(numbered(io.BytesIO(content), head), start=1):
            if number > HOPELESS and not found:
                reasons = ", ".join(f"{place}: {reason}" for reason, place in skipped.first.items())
                raise DataError(
                    f"{name}: expected JSON lines with a text under {layout.text_column!r}, found none in the first "
                    f"{HOPELESS:,} lines ({reasons})"
                )
            if not line.strip():
                skipped.at("empty_row", f"line {number}")
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                skipped.at("invalid_json", f"line {number}")
                continue
            text = fields.get(layout.text_column) if isinstance(fields, dict) else None
            if not isinstance(text, str):
                skipped.at("missing_text", f"line {number}")
            elif "\0" in text or not is_encodable(text):
                skipped.at("invalid_text", f"line {number}")
            else:
                label = str(fields.get(layout.label_column, ""))
                check_label(label, layout, name, number)
                found = True
                split = str(fields.get(layout.split_column, ""))
                yield Row(start, start + len(line), text, label, split)

    def text(self, content: bytes, layout: Layout) -> str:
        return str(json.loads(content)[layout.text_column])


READER = JsonLines()

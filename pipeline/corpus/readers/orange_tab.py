"""Orange's tables: one document a row, cells separated by tabs; the span is the text's cell.

A file has three header rows (names, types, roles) and no quoting: a quote is a character like any other, a line
break always ends the row.  That is ``csv.QUOTE_NONE``; Python's csv module is not used because it loses the byte
offsets.
"""

from collections.abc import Iterator
from typing import BinaryIO

from gptcore.errors import DataError
from pipeline.corpus.readers import Row, Skipped
from pipeline.corpus.utf8 import check_label, numbered, read_text
from pipeline.store.raw import Layout

_HEADER_ROWS = 3
_TEXT_TYPES = ("string", "s", "text")


class OrangeTab:
    suffixes = ()
    columns = True

    def read(self, stream: BinaryIO, layout: Layout, name: str, skipped: Skipped) -> Iterator[Row]:
        content, head = read_text(stream, name)
        lines = list(numbered(content.splitlines(keepends=True), head))
        names = _header(lines, layout, name)
        text_at = names.index(layout.text_column)
        label_at = names.index(layout.label_column) if layout.label_column else None
        split_at = names.index(layout.split_column) if layout.split_column else None
        for number, (start, line) in enumerate(lines[_HEADER_ROWS:], start=_HEADER_ROWS + 1):
            cells = line.split(b"\t")
            if not line.strip():
                skipped.at("empty_row", f"line {number}")
            elif len(cells) != len(names):
                skipped.at("short_row" if len(cells) < len(names) else "long_row", f"line {number}")
            else:
                start += sum(len(cell) + 1 for cell in cells[:text_at])
                label = cells[label_at].decode("utf-8") if label_at is not None else ""
                check_label(label, layout, name, number)
                split = cells[split_at].decode("utf-8") if split_at is not None else ""
                yield Row(start, start + len(cells[text_at]), cells[text_at].decode("utf-8"), label, split)

    def text(self, content: bytes, layout: Layout) -> str:
        return content.decode("utf-8")


def _header(lines: list[tuple[int, bytes]], layout: Layout, name: str) -> list[str]:
    """The column names, once it is sure that this is an orange-tab file with the wanted columns."""
    rows = [line.decode("utf-8").split("\t") for _, line in lines[:_HEADER_ROWS]]
    if len(rows) < _HEADER_ROWS:
        raise DataError(f"{name}: expected three header rows (names, types, roles), found {len(rows)} rows in all")
    names, types, _ = rows
    for column in filter(None, (layout.text_column, layout.label_column, layout.split_column)):
        if names.count(column) != 1:
            raise DataError(f"{name}: expected one column {column!r}, found the columns {names}; correct params.yaml")
    type_at = names.index(layout.text_column)
    found = types[type_at] if type_at < len(types) else ""
    if found not in _TEXT_TYPES:
        raise DataError(
            f"{name}: expected the type 'string' under {layout.text_column!r} in the second row, found {found!r}; "
            "an orange-tab file has three header rows (names, types, roles)"
        )
    return names


READER = OrangeTab()

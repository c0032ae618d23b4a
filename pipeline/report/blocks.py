"""A block of a view → what the template prints of it: finished words, shares of widths, classes of the style sheet.

All numbers are worded here, so that the template only places them.  Texts, rows and cells are limited (``MOST_ROWS``
and the like): a stage that shows its whole data set gets a page that says how much it left out, not one that no
browser opens.  A block that can't be drawn becomes its own problem and leaves its neighbours alone.

Rejected: wording in the template (untyped, and not to be tested by itself).
"""

from collections.abc import Callable, Sequence
from typing import Any

from gptcore.errors import DataError
from pipeline.report.charts import chart
from pipeline.report.files import Files
from pipeline.report.views import Damaged
from pipeline.report.wording import cut, measured, number, percent, printed
from pipeline.store.view import Bars, Block, Curves, Matrix, Note, Numbers, Show, Table, Texts

MOST_ROWS, MOST_TEXTS, MOST_LABELS = 200, 60, 64
LONGEST_CELL = 600  # characters

Drawn = tuple[str, Any]
"""The template's macro and what it is given."""


def drawn(block: Block | Damaged, files: Files) -> Drawn:
    """What the macro of the block's kind prints; ``damaged`` with the reason where that fails."""
    if isinstance(block, Damaged):
        return "damaged", block.problem
    try:
        return block.kind, _MAKERS[block.kind](block, files)
    except DataError as error:
        return "damaged", str(error)
    except Exception as error:  # what a foreign file can hold has no end; the rest of the page is worth more
        return "damaged", f"{block.kind}: {type(error).__name__}: {error}"


def _numbers(block: Numbers, files: Files) -> dict[str, Any]:
    tiles = [(name, printed(value, block.show.get(name, "number")), meaning) for name, value, meaning in block.values]
    return {"title": block.title, "tiles": tiles[:MOST_ROWS], "left_out": _left_out(tiles, MOST_ROWS)}


def _table(block: Table, files: Files) -> dict[str, Any]:
    rows = [
        [_cell(value, show) for value, (_, show) in zip(_filled(row, len(block.columns)), block.columns, strict=True)]
        for row in block.rows[:MOST_ROWS]
    ]
    wordy = sum(show == "text" for _, show in block.columns) > 2  # on a phone, three columns of text are none
    return {
        "title": block.title,
        "headings": [(heading, _place(show)) for heading, show in block.columns],
        "rows": rows,
        "folded": block.folded,
        "stacked": wordy,
        "left_out": _left_out(block.rows, MOST_ROWS),
    }


def _filled(row: Sequence[Any], width: int) -> list[Any]:
    return [*row[:width], *[None] * (width - len(row))]


def _cell(value: Any, show: Show) -> dict[str, Any]:
    """A percentage has its bar below it."""
    share = value if show == "percent" and measured(value) and 0 <= value <= 1 else None
    return {
        "text": cut(printed(value, show), LONGEST_CELL),
        "place": _place(show),
        "code": show == "code" and value,
        "share": share,
    }


def _place(show: Show) -> str:
    return "n" if show in ("number", "percent", "bytes") else ""


def _curves(block: Curves, files: Files) -> dict[str, Any]:
    made = chart(block, files.columns(block.file, [block.x, *block.lines]))
    return {"title": block.title, "unit": block.unit, "x_label": block.x_label, "chart": made}


def _bars(block: Bars, files: Files) -> dict[str, Any]:
    finite = [value for _, value, _ in block.bars if measured(value)]
    widest = max(finite, default=0) or 1
    bars = [
        {
            "name": cut(name),
            "value": printed(value, block.show),
            "share": max(0.0, value / widest) if measured(value) else 0.0,
            "ours": ours,
        }
        for name, value, ours in block.bars[:MOST_ROWS]
    ]
    left_out = _left_out(block.bars, MOST_ROWS)
    return {"title": block.title, "unit": block.unit, "note": block.note, "bars": bars, "left_out": left_out}


def _matrix(block: Matrix, files: Files) -> dict[str, Any]:
    width = len(block.labels)
    if [len(row) for row in block.counts] != [width] * width:
        raise DataError(f"matrix: {width} labels, but not {width} rows of {width} counts")
    if width > MOST_LABELS:
        raise DataError(f"matrix: {width} labels are more than a page can show ({MOST_LABELS})")
    rows = [_matrix_row(block.labels, i, row) for i, row in enumerate(block.counts)]
    return {"title": block.title, "labels": block.labels, "rows": rows}


def _matrix_row(labels: Sequence[str], actual: int, counts: Sequence[int]) -> dict[str, Any]:
    total = sum(counts)
    cells = [
        {
            "count": number(count),
            "shade": round(100 * (max(count, 0) / total) ** 0.5) if total > 0 else 0,  # the root: so that 1 % shows
            "classes": f"{'right' if i == actual else ''}{'' if count else ' zero'}",
            "title": f"{labels[actual]} → {labels[i]}: {count}",
        }
        for i, count in enumerate(counts)
    ]
    right = percent(counts[actual] / total if total else None)
    return {"label": labels[actual], "cells": cells, "total": number(total), "right": right}


def _texts(block: Texts, files: Files) -> dict[str, Any]:
    items = [
        {"tags": tags, "given": cut(given), "gap": _gap(given, wrote), "wrote": cut(wrote)}
        for tags, given, wrote in block.items[:MOST_TEXTS]
    ]
    left_out = _left_out(block.items, MOST_TEXTS)
    return {"title": block.title, "items": items, "folded": block.folded, "left_out": left_out}


def _gap(given: str, wrote: str) -> str:
    """A continuation begins with its own space; an answer stands on a line of its own."""
    return "" if not given or not wrote or wrote[0].isspace() else "\n"


def _note(block: Note, files: Files) -> list[str]:
    """The text in parts, every second of which stood between backticks."""
    return cut(block.text).split("`")


def _left_out(items: Sequence[Any], most: int) -> str:
    return f"The first {most} of {len(items):,}." if len(items) > most else ""


_MAKERS: dict[str, Callable[[Any, Files], Any]] = {
    "numbers": _numbers,
    "table": _table,
    "curves": _curves,
    "bars": _bars,
    "matrix": _matrix,
    "texts": _texts,
    "note": _note,
}

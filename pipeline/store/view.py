"""What a stage has to show: headline numbers and blocks, as plain data.

A stage knows what its numbers mean, in which unit and beside what they stand; the report knows how to draw.  So
a stage returns a ``View``, which lies in ``data/views/<name>.json`` as one of its outs, and the report, the
summary and the cards read it without knowing any stage.  A stage of one's own shows in the same way.

A view holds no time, path of this machine or speed: it is an out, and outs are the same bytes on every run.

Rejected: sections of the report that know the metrics of a stage by its name (a new stage was invisible, and a
renamed metric an empty place on the page).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

Show = Literal["number", "percent", "bytes", "text", "code"]
"""How a value is printed: 1,234 or 1.868; 94.3 %; 17.1 MB; as it is; as code."""


@dataclass(frozen=True)
class Headline:
    """One of the few numbers that a reader wants first."""

    name: str
    """What was measured, in two words: ``language model``."""
    value: Any
    unit: str
    """What the value counts: ``bits/byte``, ``accuracy``."""
    beside: str
    """What it is to be compared with: ``5-gram 1.884, xz 2.308``."""
    meaning: str
    """How it is defined, in a sentence."""
    show: Show = "number"


@dataclass(frozen=True)
class Numbers:
    """A row of single values."""

    kind: ClassVar[str] = "numbers"
    values: Sequence[tuple[str, Any, str]]
    """(what it is, the value, what it means or ``""``)."""
    title: str = ""
    show: dict[str, Show] = field(default_factory=dict)
    """What it is → how its value is printed, where not as a number."""


@dataclass(frozen=True)
class Table:
    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[tuple[str, Show]]
    """Heading and how the column's values are printed."""
    rows: Sequence[Sequence[Any]]
    """Values in the order of the columns; None is shown as a dash."""
    folded: bool = False
    """Shown only when it is asked for."""


@dataclass(frozen=True)
class Curves:
    """Lines over the steps of a training, read from a CSV file that is an out of the same stage."""

    kind: ClassVar[str] = "curves"
    title: str
    file: str
    """Relative to the project."""
    lines: dict[str, str]
    """Column of the file → what the line is called."""
    unit: str
    smoothed: Sequence[str] = ()
    """Columns that are noisy: drawn pale, with a running mean on top."""
    x: str = "step"
    x_label: str = "optimizer step"


@dataclass(frozen=True)
class Bars:
    kind: ClassVar[str] = "bars"
    title: str
    unit: str
    bars: Sequence[tuple[str, float, bool]]
    """(name, value, whether it is ours)."""
    note: str = ""
    show: Show = "number"


@dataclass(frozen=True)
class Matrix:
    """How often each actual label (row) was predicted as each label (column)."""

    kind: ClassVar[str] = "matrix"
    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Texts:
    kind: ClassVar[str] = "texts"
    title: str
    items: Sequence[tuple[Sequence[str], str, str]]
    """(tags, what was given, what the model wrote)."""
    folded: bool = False


@dataclass(frozen=True)
class Note:
    kind: ClassVar[str] = "note"
    text: str


Block = Numbers | Table | Curves | Bars | Matrix | Texts | Note


@dataclass(frozen=True)
class View:
    """What a stage shows."""

    title: str
    """Of its section: ``Classification``."""
    headlines: Sequence[Headline] = ()
    blocks: Sequence[Block] = ()
    quote: str = ""
    """A text worth reading at the end of a run."""

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; each block says its kind."""
        blocks = [{"kind": block.kind, **asdict(block)} for block in self.blocks]
        return {**asdict(self), "blocks": blocks}


@dataclass(frozen=True)
class Outcome:
    """What a stage gives back: numbers for ``data/metrics``, and what to show of them."""

    metrics: dict[str, Any]
    view: View = field(default_factory=lambda: View(""))
    files: Sequence[Path] = ()
    """Small files among its outputs that a person would open; trackers keep a copy."""

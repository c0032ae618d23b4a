"""Lines over the steps of a training, drawn by Bokeh in the reader's browser: to hover over and to zoom into.

A chart is Bokeh's JSON, which the page holds as data and ``charts.js`` hands to BokehJS; the library's core bundle is
1.27 MB and is on the page once, only if there is a chart.  It needs neither ``eval`` nor the network.  A line is
thinned to ``MOST_POINTS`` (means of equal runs; a chart is 7 to 20 kB), and its colours are in the middle between
light and dark; axes and grid take theirs from the page's style sheet.  The table of each line's ends and extremes is
what stays without a script.

Rejected: plotly.js (4.7 MB), matplotlib's pictures (the colours of one mode, nothing to zoom), and drawing our own
SVG (ticks, scales and paths that others maintain better).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

from gptcore.errors import DataError
from pipeline.report.wording import number
from pipeline.store.view import Curves

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 400
SMOOTHED_PART = 30
"""A running mean is over this part of the points: the thirtieth."""
COLOURS = ("#0d9488", "#d97706", "#7c6cf0", "#3b82d9", "#d9467a", "#7a8b2f")
_HEIGHT = 260  # pixels
_DIGITS = 6  # significant ones of a value on the page
_SIDES: tuple[Literal["right", "left", "above", "below"], ...] = (
    "right",
    "left",
    "above",
    "below",
)  # where a line's tooltip goes, so that they don't cover each other


@dataclass(frozen=True)
class Line:
    """One line of a chart, ready to be drawn."""

    label: str
    colour: str
    raw: "pd.DataFrame"
    """As measured: columns ``x`` and ``y``, finite."""
    shown: "pd.DataFrame"
    """What is drawn in full colour: thinned, and smoothed where the view asks for it."""
    smoothed: bool
    dots: bool
    """Measured now and then: each point is marked."""


@dataclass(frozen=True)
class Chart:
    """A chart as the page holds it."""

    item: dict[str, Any]
    """For ``Bokeh.embed.embed_item``."""
    legend: list[tuple[str, str]]
    """Label and colour of each line."""
    rows: list[list[str]]
    """Of each line: label, first, lowest, highest and last value."""


def chart(block: Curves, columns: "pd.DataFrame") -> Chart:
    """The chart of those of the block's lines that ``columns`` has.

    Raises:
        DataError: there is nothing to draw.
    """
    lines = list(_lines(block, columns))
    if not lines:
        raise DataError(f"{block.file}: no numbers in the columns {', '.join(block.lines)} over {block.x}")
    return Chart(_drawing(block, lines), [(line.label, line.colour) for line in lines], [_row(line) for line in lines])


def smooth(points: "pd.DataFrame") -> "pd.DataFrame":
    """``y`` as the mean over a centred window, shorter towards the ends: it doesn't lag behind."""
    window = max(1, len(points) // SMOOTHED_PART)
    return points.assign(y=points["y"].rolling(window, center=True, min_periods=1).mean())


def thin(points: "pd.DataFrame", most: int = MOST_POINTS) -> "pd.DataFrame":
    """At most ``most`` points: the means of equal runs of them."""
    import numpy as np

    run = max(1, math.ceil(len(points) / most))
    return points.groupby(np.arange(len(points)) // run).mean()


def _lines(block: Curves, columns: "pd.DataFrame") -> Iterator[Line]:
    for place, (name, label) in enumerate(block.lines.items()):
        raw = _points(columns, block.x, name)
        if len(raw):
            smoothed = name in block.smoothed
            dots = len(raw) <= MOST_POINTS / 8 or len(raw) < len(columns) / 2
            colour = COLOURS[place % len(COLOURS)]
            yield Line(label, colour, raw, thin(smooth(raw) if smoothed else raw), smoothed, dots and not smoothed)


def _points(columns: "pd.DataFrame", x: str, y: str) -> "pd.DataFrame":
    """The finite points, in the order of ``x``; none where a column is missing."""
    import numpy as np
    import pandas as pd

    if x not in columns or y not in columns:
        return pd.DataFrame({"x": [], "y": []})
    points = pd.DataFrame({"x": columns[x], "y": columns[y]}, dtype=float)
    return points.replace([np.inf, -np.inf], np.nan).dropna().sort_values("x", kind="stable", ignore_index=True)


def _row(line: Line) -> list[str]:
    y = line.raw["y"]
    return [line.label, *(number(float(value)) for value in (y.iloc[0], y.min(), y.max(), y.iloc[-1]))]


# --- Bokeh ------------------------------------------------------------------------------------------------


def bundle() -> str:
    """BokehJS's core, minified: a script that asks for nothing."""
    from bokeh.resources import Resources

    return Resources(mode="inline", components=["bokeh"]).js_raw[0]


def _drawing(block: Curves, lines: Sequence[Line]) -> dict[str, Any]:
    from bokeh.embed import json_item
    from bokeh.models import BasicTickFormatter, HoverTool, NumeralTickFormatter, PlainText

    plot = _empty_plot()
    plot.xaxis.axis_label, plot.yaxis.axis_label = PlainText(text=block.x_label), PlainText(text=block.unit)
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
    plot.yaxis.formatter = BasicTickFormatter(use_scientific=False)
    for line, side in zip(lines, cycle(_SIDES), strict=False):
        if line.smoothed:
            plot.line("x", "y", source=_source(thin(line.raw)), color=line.colour, alpha=0.35)
        shown = plot.line("x", "y", source=_source(line.shown), color=line.colour, width=2)
        if line.dots:
            plot.scatter("x", "y", source=_source(line.shown), color=line.colour, size=6)
        tooltips = [(block.x_label, "@x{0,0.[00]}"), (line.label, "@y{%.5g}")]
        hover = HoverTool(tooltips=tooltips, formatters={"@y": "printf"}, renderers=[shown], attachment=side)
        hover.mode, hover.line_policy = "vline", "nearest"
        plot.add_tools(hover)
    return dict(json_item(plot))


def _empty_plot() -> Any:
    """Axes on a transparent ground; dragging zooms, a double click goes back, the wheel scrolls the page."""
    from bokeh.models import BoxZoomTool, InlineStyleSheet, PanTool, ResetTool, WheelZoomTool
    from bokeh.plotting import figure

    plot = figure(
        height=_HEIGHT, sizing_mode="stretch_width", tools=[], toolbar_location="above", toolbar_inner=True,
        background_fill_color=None, border_fill_color=None, outline_line_color=None, min_border=0,
    )  # fmt: skip
    zoom = BoxZoomTool()
    plot.add_tools(zoom, PanTool(), WheelZoomTool(), ResetTool())
    plot.toolbar.active_drag, plot.toolbar.active_scroll = zoom, None
    plot.toolbar.logo, plot.toolbar.autohide = None, True
    plot.toolbar.stylesheets = [InlineStyleSheet(css=":host(.bk-inner) { background: none; }")]
    plot.axis.minor_tick_line_color = None
    plot.xgrid.visible = False
    return plot


def _source(points: "pd.DataFrame") -> Any:
    """As plain lists, which the page holds as readable JSON."""
    from bokeh.models import ColumnDataSource

    columns = {name: [float(f"{value:.{_DIGITS}g}") for value in points[name]] for name in ("x", "y")}
    return ColumnDataSource(columns)

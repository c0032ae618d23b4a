"""Line charts as inline SVG: no script, no picture files, colours from the page's own style sheet.

A chart is a string of markup whose parts carry classes (``line-1``, ``grid``), so that one drawing fits a
light page, a dark one and paper.  Everything that comes from data is escaped by `markupsafe`.  A chart of
1,100 points is 20 kB.

Rejected: matplotlib (its pictures keep the colours of the page they were drawn for), and the chart libraries that
draw in the browser (a script of megabytes, or a request to somebody's server).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup, escape

WIDTH, HEIGHT = 380, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 10, 44
MOST_POINTS = 400

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    faint: bool = False
    """Drawn thin and pale behind the others, and left out of the legend."""
    dots: bool = False
    """Each point marked: for values that are measured now and then."""


def line_chart(title: str, series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """A figure with axes, one line a series and a legend; empty where there is nothing to draw."""
    series = [Series(s.name, _finite(s.points), s.faint, s.dots) for s in series]
    points = [point for s in series for point in s.points]
    if not points:
        return Markup("")
    frame = _Frame.around(points)
    drawing = tag(
        "svg",
        *_axes(frame, x_label, y_label),
        *(mark for i, s in enumerate(series) for mark in _marks(frame, s, i)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title} by {x_label}",
    )
    return tag("figure", tag("figcaption", tag("b", title), _legend(series, title)), drawing, class_="chart")


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Centred moving mean over about a thirtieth of the points, of fewer towards the ends: it doesn't lag behind."""
    points = _finite(points)
    sums = [0.0, *accumulate(y for _, y in points)]
    widths = [min(len(points) // 60, i, len(points) - 1 - i) for i in range(len(points))]
    return [
        (x, (sums[i + w + 1] - sums[i - w]) / (2 * w + 1))
        for i, ((x, _), w) in enumerate(zip(points, widths, strict=True))
    ]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most ``most`` points: the means of equal runs of them."""
    run = math.ceil(len(points) / most)
    return [_mean(points[i : i + run]) for i in range(0, len(points), run)] if run > 1 else list(points)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def tag(name: str, *children: object, **attributes: Any) -> Markup:
    """An element; children and values are escaped, ``class_`` is ``class`` and ``_`` is ``-``."""
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{pairs}>{''.join(escape(child) for child in children)}</{name}>")


@dataclass(frozen=True)
class _Frame:
    """The plane of the data and where it lies on the drawing."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(cls, points: Sequence[Point]) -> "_Frame":
        xs, ys = [x for x, _ in points], [y for _, y in points]
        low, high = min(ys), max(ys)
        margin = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
        left, right = min(xs), max(xs)
        return cls(left, right if right > left else left + 1.0, max(low - margin, min(0.0, low)), high + margin)

    def x(self, value: float) -> float:
        return round(_LEFT + (value - self.left) / (self.right - self.left) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - _TOP - _BOTTOM), 1)


def _axes(frame: _Frame, x_label: str, y_label: str) -> Iterator[Markup]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for value in ticks(frame.low, frame.high):
        y = frame.y(value)
        yield tag("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid")
        yield tag("text", _number(value), x=_LEFT - 6, y=y + 4, text_anchor="end")
    for value in ticks(frame.left, frame.right, 4):
        yield tag("text", _number(value), x=frame.x(value), y=bottom + 17, text_anchor="middle")
    yield tag("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis")
    yield tag("text", x_label, x=(_LEFT + right) / 2, y=HEIGHT - 6, text_anchor="middle", class_="label")
    middle = (_TOP + bottom) / 2
    yield tag("text", y_label, transform=f"translate(11 {middle}) rotate(-90)", text_anchor="middle", class_="label")


def _marks(frame: _Frame, series: Series, index: int) -> Iterator[Markup]:
    places = [(frame.x(x), frame.y(y)) for x, y in series.points]
    path = " ".join(f"{x:g},{y:g}" for x, y in places)
    yield tag("polyline", points=path, class_=f"line line-{index}{' faint' if series.faint else ''}")
    if series.dots:
        for (x, y), (step, value) in zip(places, series.points, strict=True):
            label = tag("title", f"{series.name}, {_number(step)}: {value:.4g}")
            yield tag("circle", label, cx=x, cy=y, r=3, class_=f"dot line-{index}")


def _legend(series: Sequence[Series], title: str) -> Markup:
    """The names of the lines, except one that the title says already."""
    entries = [(i, s.name) for i, s in enumerate(series) if not s.faint and s.name != title]
    return Markup("").join(tag("span", tag("i", class_=f"key line-{i}"), name, class_="legend") for i, name in entries)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _mean(points: Sequence[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _number(value: float) -> str:
    """A tick's label: 1,000 and 0.003, never 1e+03."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 10):g}"

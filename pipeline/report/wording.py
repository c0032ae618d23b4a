"""Numbers as people read them; a dash stands for one that isn't known.

Every function takes any value, for views come from files: one that isn't a number is shown as it is, or as a dash
where only a number makes sense.  Rejected: ``locale`` and Babel (the page is English on every machine).
"""

import math
from typing import Any

from pipeline.store.view import Show

DASH = "–"
LONGEST_TEXT = 2_000
"""Characters of one text on the page; a longer one ends in an ellipsis."""


def printed(value: Any, show: Show = "number") -> str:
    """``value`` in the way that a view asks for."""
    ways = {"number": number, "percent": percent, "bytes": size}
    return cut(ways.get(show, text)(value))


def number(value: Any) -> str:
    """1,234,567 and 1.868, four digits of a fraction; yes and no; a list's numbers after each other."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _fraction(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(number(item) for item in value)
    return text(value)


def _fraction(value: float) -> str:
    """Zeros at the end say that the value was rounded to them: 2.5, but 5.000 for 5.0003."""
    if 1000 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    short = f"{value:.4g}"
    return short if float(short) == value or not math.isfinite(value) else f"{value:#.4g}".rstrip(".")


def percent(value: Any) -> str:
    """A share: 0.943 → 94.3 %, with a space that doesn't break."""
    return f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%" if measured(value) else DASH


def size(n_bytes: Any) -> str:
    """Bytes in decimal units: 17,099,760 → 17.1 MB."""
    if not measured(n_bytes):
        return DASH
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def duration(seconds: Any) -> str:
    """75.3 → 1 min 15 s."""
    if not measured(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def text(value: Any) -> str:
    return DASH if value is None or value == "" else str(value)


def cut(long: str, most: int = LONGEST_TEXT) -> str:
    return long if len(long) <= most else long[:most].rstrip() + " …"


def measured(value: Any) -> bool:
    """Whether ``value`` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

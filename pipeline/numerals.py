"""Numbers as people read them; a dash stands for one that isn't known."""

from typing import Any


def number(value: Any, digits: int = 4) -> str:
    """1,234,567 and 1.868; yes and no; a list's numbers after each other."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(number(item, digits) for item in value)
    return str(value or "") or "–"


def percent(value: Any) -> str:
    """A share: 0.943 → 94.3 %, with a space that doesn't break."""
    return f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%" if isinstance(value, int | float) else "–"


def size(n_bytes: Any) -> str:
    """Bytes in decimal units: 17,099,760 → 17.1 MB."""
    if not isinstance(n_bytes, int | float):
        return "–"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def duration(seconds: Any) -> str:
    """75.3 → 1 min 15 s."""
    if not isinstance(seconds, int | float):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"

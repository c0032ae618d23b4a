"""How slow this processor is, for limits in its seconds: machines of one name differ by a factor of two."""

import time
from functools import cache

REFERENCE_SECONDS, MOST = 0.06, 4.0
"""Half of what ``_work`` takes on the slowest processor seen, which the limits were too short for; and no limit grows
beyond so many times."""


@cache
def slowness() -> float:
    """1 to ``MOST``: the seconds here in which the reference does a second of plain Python."""
    return min(MOST, max(1.0, min(_work() for _ in range(3)) / REFERENCE_SECONDS))


def _work() -> float:
    began, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number * number % 7
    return time.process_time() - began

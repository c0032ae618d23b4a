"""How slow this processor is, for limits in its seconds: machines of one name differ by a factor of two."""

import time
from functools import cache

REFERENCE_SECONDS = 0.06
"""What ``_work`` takes on the machines on which the limits were set."""


@cache
def slowness() -> float:
    """At least 1: the seconds here in which the reference does a second of plain Python."""
    return max(1.0, min(_work() for _ in range(3)) / REFERENCE_SECONDS)


def _work() -> float:
    began, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number * number % 7
    return time.process_time() - began

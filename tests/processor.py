"""How slow this processor is, for limits in its seconds: machines of one name differ by a factor of two.

So does one machine from one moment to the next, where its two processors are threads of one core and the other one
computes or does not: whoever judges by it asks when it judges.
"""

import statistics
import time

REFERENCE_SECONDS, MOST = 0.06, 4.0
"""Half of what ``_work`` takes on the slowest processor seen, which the limits were too short for; and no limit grows
beyond so many times."""


def slowness() -> float:
    """1 to ``MOST``: the seconds here and now in which the reference does a second of plain Python."""
    return min(MOST, max(1.0, statistics.median(_work() for _ in range(3)) / REFERENCE_SECONDS))


def _work() -> float:
    began, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number * number % 7
    return time.process_time() - began

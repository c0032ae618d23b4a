"""Two candidates side by side: turn by turn in the same minutes, compared round by round.

Speed on a shared machine drifts by more than what is to be measured, so a number from one minute says
nothing about a number from another.  Here both candidates live in processes of their own, both are warm, and
in every round each works for about the same time while the other waits; the order changes from round to
round.  A round gives one ratio of speeds; the median over the rounds is the result and the extremes are its
spread.  No round is thrown away.

Only two workers live at a time: peak memory is each one's own, and two models fit into small machines.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.process import Bench, Sample, Worker
from benchmarks.workloads import Workload


@dataclass(frozen=True)
class Pace:
    """How long to look."""

    min_rounds: int = 3
    max_rounds: int = 7
    turn_seconds: float = 1.2
    """Work of one turn; a candidate whose unit takes longer does one unit."""
    duel_seconds: float = 12.0
    """After this, and ``min_rounds``, the rounds end."""


QUICK = Pace(min_rounds=3, max_rounds=3, turn_seconds=0.5, duel_seconds=0.0)


@dataclass(frozen=True)
class Round:
    """One turn of each."""

    ours: Sample
    theirs: Sample
    first: str
    """Who worked first, ``ours`` or ``theirs``."""

    @property
    def ratio(self) -> float:
        """Our tokens/s over theirs."""
        return self.ours.rate / self.theirs.rate


@dataclass(frozen=True)
class Spread:
    """A median and what it lies between."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


def summary(rounds: Sequence[Round], our_peak: int, their_peak: int) -> dict[str, Any]:
    """What a table shows of a duel: tokens/s, their ratio, and peak memory in bytes."""
    return {
        "ours": asdict(Spread.of([r.ours.rate for r in rounds])),
        "theirs": asdict(Spread.of([r.theirs.rate for r in rounds])),
        "ratio": asdict(Spread.of([r.ratio for r in rounds])),
        "our_peak_bytes": our_peak,
        "their_peak_bytes": their_peak,
        "memory_ratio": our_peak / their_peak,
    }


def duel(bench: Bench, work: Workload, ours: str, theirs: str, pace: Pace) -> dict[str, Any]:
    """Let two candidates do the same work in turns; raises ``WorkerError`` if one of them can't."""
    with Worker(bench, ours, work) as a, Worker(bench, theirs, work) as b:
        units = {worker: warm_up(worker, pace) for worker in (a, b)}
        rounds: list[Round] = []
        started = time.perf_counter()
        while not _enough(len(rounds), time.perf_counter() - started, pace):
            first, second = (a, b) if len(rounds) % 2 == 0 else (b, a)
            turn = {worker: worker.run(units[worker]) for worker in (first, second)}
            rounds.append(Round(turn[a], turn[b], "ours" if first is a else "theirs"))
        facts = summary(rounds, a.finish(), b.finish())
    return {
        "ours": ours,
        "theirs": theirs,
        "rounds": [asdict(r) | {"ratio": r.ratio} for r in rounds],
        "summary": facts,
    }


def warm_up(worker: Worker, pace: Pace) -> int:
    """One unit that pays for everything that happens once, then units for a whole turn; returns how many that takes.

    A candidate whose first unit takes several turns is warm after it.
    """
    worker.wait_until_ready()
    laps = [worker.run().seconds]
    while sum(laps[1:]) < pace.turn_seconds and laps[0] < 4 * pace.turn_seconds:
        laps.append(worker.run().seconds)
    return max(1, round(pace.turn_seconds / laps[-1]))


def _enough(rounds: int, seconds: float, pace: Pace) -> bool:
    return rounds >= pace.max_rounds or (rounds >= pace.min_rounds and seconds >= pace.duel_seconds)

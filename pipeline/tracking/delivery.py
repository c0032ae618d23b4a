"""Carry spools to a store: live, exactly once, and without anybody waiting for it.

One feeder at a time works on a directory of spools (a file lock says which).  It passes on what is new every
few seconds while a run writes, notices writers that died, and ends some seconds after the last one did.
How far each spool got stands beside it; everything sent may be sent again without changing the result, so a
feeder that dies between sending and noting leaves neither a gap nor a double.

Whatever goes wrong with one run or with the store as a whole leaves the spool as it is: it is delivered by
whatever feeds next.  Runs that finished are deleted once they are delivered; those that did not may be gone
on with and are kept for two weeks.

Rejected: a daemon for all projects (something to install, and to go wrong), and a thread in the stage (the
store's imports and its waiting would be in the trainer's process).
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pipeline import locks
from pipeline.tracking import spool
from pipeline.tracking.spool import Delivery, Event

LIVE_SECONDS = 3.0
IDLE_SECONDS = 5.0
RETRY_SECONDS = 20.0
POLL_SECONDS = 0.25
KEPT_SECONDS = 14 * 86400.0
BATCH_VALUES = 1000


class Run(Protocol):
    """One run in a store; every method may be repeated without changing the result."""

    @property
    def discarded(self) -> bool:
        """Somebody deleted the run: what is still to come isn't wanted."""

    def send(self, events: Sequence[Event], files: Path) -> None:
        """Record ``events``; copies of artifacts are in ``files``."""

    def end(self, status: str, time_ms: int) -> None:
        """Mark the run as ended."""


class Store(Protocol):
    """Where runs go."""

    def find(self, start: Event) -> Run | None:
        """The run that ``start`` began, if the store has it."""

    def create(self, start: Event) -> Run:
        """A new run for ``start``."""


Connect = Callable[[], Store]


def feed(directory: Path, connect: Connect) -> None:
    """Deliver while anything is written, and some seconds longer; returns at once beside another feeder."""
    while True:
        with locks.held(lock_of(directory), wait=False) as mine:
            if mine is not None:
                _feed_until_idle(Feeder(directory, connect))
        if mine is None or not live(directory):  # a writer that came before the lock was free started no feeder
            return


def deliver(directory: Path, connect: Connect, timeout_seconds: float) -> str:
    """Wait until every ended run is delivered, helping where no feeder works; returns what went wrong."""
    deadline = time.monotonic() + timeout_seconds
    while undelivered(directory):
        if time.monotonic() > deadline:
            return f"not done within {timeout_seconds:g} s"
        with locks.held(lock_of(directory), wait=False) as mine:
            if mine is not None and (reasons := Feeder(directory, connect).deliver()):
                return reasons[0]
        if mine is None:
            time.sleep(POLL_SECONDS)
    return ""


def undelivered(directory: Path) -> list[Path]:
    """The spools of ended runs that still hold something to deliver."""
    return [path for path in spool.spools(directory) if spool.pending(path)]


def live(directory: Path) -> list[Path]:
    """The spools that are being written."""
    return [path for path in spool.spools(directory) if spool.writer_lives(path)]


def lock_of(directory: Path) -> Path:
    return directory / "feeder.lock"


class Feeder:
    """Carries the spools of one directory; the caller holds the directory's lock."""

    def __init__(self, directory: Path, connect: Connect) -> None:
        self.directory = directory
        self._connect = connect
        self._store: Store | None = None
        self._runs: dict[Path, Run] = {}

    def deliver(self) -> list[str]:
        """Pass on everything new; returns the reason for each spool that could not be delivered."""
        reasons = []
        for path in spool.spools(self.directory):
            try:
                self._deliver(path)
            except Exception as error:  # a view's troubles must not become the run's
                reasons.append((str(error).strip() or repr(error)).splitlines()[0])
                if self._store is None:
                    break  # no store: the next spool would only wait as long again
        return reasons

    def _deliver(self, path: Path) -> None:
        writing = spool.writer_lives(path)  # asked before reading: an end in between is seen next time
        delivery = Delivery.load(path)
        if spool.read(path, delivery.offset)[1] > delivery.offset or not (writing or delivery.status):
            delivery = self._pass_on(path, writing)
        if not writing and _done_with(path, delivery):
            self._runs.pop(path, None)
            spool.remove(path)

    def _pass_on(self, path: Path, writing: bool) -> Delivery:
        run = self._runs.get(path) or self._open(path)
        delivery = Delivery.load(path)
        if run is None:
            return Delivery(0, "" if writing else "FINISHED")
        events, end = spool.read(path, delivery.offset)
        for batch, offset in [] if run.discarded else _batches(events):
            run.send([event for _, event in batch], spool.files_of(path))
            delivery = Delivery(offset, _status([event for _, event in batch], delivery.status))
            delivery.save(path)
        if not writing and not delivery.status:
            run.end("KILLED", events[-1][1]["time_ms"] if events else spool.now_ms())
            delivery = Delivery(end, "KILLED")
        delivery = Delivery(end, "FINISHED" if run.discarded and not writing else delivery.status)
        delivery.save(path)
        return delivery

    def _open(self, path: Path) -> Run | None:
        """The spool's run in the store; a store that doesn't know it gets it from its first line on."""
        start = spool.first(path)
        if start is None:
            return None
        self._store = self._store or self._connect()
        run = self._store.find(start)
        if run is None:
            Delivery().save(path)
            run = self._store.create(start)
        self._runs[path] = run
        return run


def _feed_until_idle(feeder: Feeder) -> None:
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_SECONDS:
        writing = live(feeder.directory)
        reasons = feeder.deliver()
        for reason in reasons:
            print(reason, file=sys.stderr, flush=True)
        if writing:
            idle_since = time.monotonic()
        elif reasons:
            return
        pause = RETRY_SECONDS if reasons else LIVE_SECONDS if writing else POLL_SECONDS
        _rest(feeder.directory, writing, pause)


def _rest(directory: Path, writing: list[Path], seconds: float) -> None:
    """Sleep, but not past the moment when a run begins or ends."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and live(directory) == writing:
        time.sleep(POLL_SECONDS)


def _batches(events: Sequence[tuple[int, Event]]) -> Iterator[tuple[list[tuple[int, Event]], int]]:
    """Runs of events with at most ``BATCH_VALUES`` values, each with the offset behind its last one."""
    batch: list[tuple[int, Event]] = []
    values = 0
    for offset, event in events:
        count = len(event.get("values", ()))
        if batch and values + count > BATCH_VALUES:
            yield batch, batch[-1][0]
            batch, values = [], 0
        batch.append((offset, event))
        values += count
    if batch:
        yield batch, batch[-1][0]


def _status(events: Sequence[Event], before: str) -> str:
    for event in events:
        before = event["status"] if event["event"] == "end" else "" if event["event"] == "resume" else before
    return before


def _done_with(path: Path, delivery: Delivery) -> bool:
    """Finished, or nobody will go on with it."""
    start = spool.first(path) or {}
    final = not start.get("resumable", True) or time.time() - path.stat().st_mtime > KEPT_SECONDS
    return delivery.status == "FINISHED" or (bool(delivery.status) and final)

"""A spool: the record of one run as lines of JSON in a file, written at once and read by whoever delivers it.

A run's facts are appended to a local file (some microseconds each, no network, no database), so that a
tracking server that is slow, down or broken can't touch the run.  A separate process reads the file from
where it stopped and passes it on.  The first line says what runs, the last how it ended::

    {"event": "start",   "identity": …, "name": "pretrain", "parent": …, "params": {…}, "tags": {…}, "inputs": {…}}
    {"event": "metrics", "step": 10, "values": {"loss_nats_per_token": 5.1}}
    {"event": "artifact", "name": "plots/loss.png"}
    {"event": "end",     "status": "FINISHED", "metrics": {…}}

Every line also carries ``time_ms``.  Together with the step it identifies a point for ever: a line that is
delivered twice is the same point, not a second one.

The writer holds a lock on the file while it lives, which the kernel drops however it dies.  A run that was
killed goes on in the same file: a torn last line is cut off, and steps that are already there are not
written again although the trainer repeats them from its last checkpoint.

Rejected: SQLite for the spool (its locks would couple writer and reader again), a pid file for liveness
(pids are reused), a byte-range lock (lost when any descriptor of the file is closed).
"""

import errno
import json
import os
import shutil
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcore.artifact import write_atomically
from pipeline import locks

Event = dict[str, Any]

LOCK_PATIENCE_SECONDS = 1.0  # a reader asks whether the writer lives by holding its lock for an instant
LARGEST_ARTIFACT_BYTES = 64 << 20


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class SpoolWriter:
    """The one writer of a spool.  ``key`` names the run: the same key goes on where a killed run stopped."""

    def __init__(self, directory: Path, key: str, facts: Mapping[str, Any]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path, self._descriptor = _claim(directory, key)
        _let_go_in_forked_children(self)
        events, whole = _parse(self.path.read_bytes())
        os.ftruncate(self._descriptor, whole)
        self._last_step: dict[str, int] = {}
        for event in events:
            for name in event.get("values", ()):
                self._last_step[name] = max(event["step"], self._last_step.get(name, event["step"]))
        self.append("resume" if events else "start", **facts)

    def append(self, kind: str, **facts: Any) -> None:
        """Add one line; whole lines only, so that a reader never waits for the rest of one."""
        line = json.dumps({"event": kind, "time_ms": now_ms(), **facts}, ensure_ascii=False, default=str)
        content = line.encode("utf-8") + b"\n"
        if os.write(self._descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, f"{self.path}: the disk is full")

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add the values of one step, less those that are there from before the run was killed."""
        new = {k: float(v) for k, v in values.items() if step > self._last_step.get(k, step - 1)}
        if new:
            self.append("metrics", step=step, values=new)
            self._last_step.update(dict.fromkeys(new, step))

    def artifact(self, source: Path, name: str) -> None:
        """Keep a copy of a small file: the original may be gone when the record is delivered."""
        if source.stat().st_size > LARGEST_ARTIFACT_BYTES:
            raise OSError(f"{source}: larger than {LARGEST_ARTIFACT_BYTES >> 20} MiB, too large for the tracker")
        copy = files_of(self.path) / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        self.append("artifact", name=name)

    @property
    def last_step(self) -> int:
        """The highest step of any metric; -1 when there is none."""
        return max(self._last_step.values(), default=-1)

    def close(self) -> None:
        """Release the lock; without an ``end`` line the run counts as killed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True)
class Delivery:
    """How far a spool has been passed on."""

    offset: int = 0
    """Bytes of whole lines."""
    status: str = ""
    """The run's last known end, ``""`` while it runs."""

    @classmethod
    def load(cls, spool: Path) -> "Delivery":
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads(_state_of(spool).read_text()))
        return cls()

    def save(self, spool: Path) -> None:
        write_atomically(_state_of(spool), json.dumps(vars(self)).encode())


def spools(directory: Path) -> list[Path]:
    """All spools, oldest run first."""
    return sorted(directory.glob("*.jsonl"), key=lambda path: path.name)


def first(spool: Path) -> Event | None:
    """The first event, which says what runs; None where the writer died before it was whole."""
    with open(spool, "rb") as file:
        line = file.readline()
    return _event(line) if line.endswith(b"\n") else None


def read(spool: Path, offset: int) -> tuple[list[tuple[int, Event]], int]:
    """The events behind ``offset``, each with the offset of its end, and the end of the last whole line."""
    with open(spool, "rb") as file:
        file.seek(offset)
        content = file.read()
    whole = content.rfind(b"\n") + 1
    events, end = [], offset
    for line in content[:whole].splitlines(keepends=True):
        end += len(line)
        if event := _event(line):
            events.append((end, event))
    return events, offset + whole


def writer_lives(spool: Path) -> bool:
    """Whether a process is still writing to ``spool``; nobody writes to one that the feeder just removed."""
    try:
        with open(spool, "rb") as file:
            return not locks.take(file.fileno(), shared=True)
    except FileNotFoundError:
        return False


def pending(spool: Path) -> bool:
    """Whether a run that no longer writes has something left to deliver, its end included."""
    if not spool.exists() or writer_lives(spool):
        return False
    try:
        delivery = Delivery.load(spool)
        return delivery.offset < read(spool, delivery.offset)[1] or not delivery.status
    except FileNotFoundError:  # delivered and removed between two looks
        return False


def remove(spool: Path) -> None:
    """Delete a spool and all that belongs to it; the spool itself last."""
    shutil.rmtree(files_of(spool), ignore_errors=True)
    for draft in spool.parent.glob(f".{_glob_literal(_state_of(spool).name)}.tmp-*"):  # of a feeder that was killed
        draft.unlink(missing_ok=True)
    _state_of(spool).unlink(missing_ok=True)
    spool.unlink(missing_ok=True)


def files_of(spool: Path) -> Path:
    """Where the copies of a run's artifacts are."""
    return spool.with_suffix(".files")


def _claim(directory: Path, key: str) -> tuple[Path, int]:
    """Open and lock the key's unfinished spool, or a new one after the last."""
    taken = sorted(directory.glob(f"{_glob_literal(key)}~*.jsonl"))
    number = int(taken[-1].stem.rpartition("~")[2]) if taken else 1
    while True:
        path = directory / f"{key}~{number:04d}.jsonl"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if (
            locks.take(descriptor, patience_seconds=LOCK_PATIENCE_SECONDS)
            and os.fstat(descriptor).st_nlink
            and not _finished(path)
        ):
            return path, descriptor
        os.close(descriptor)
        number += 1


def _finished(spool: Path) -> bool:
    events, _ = _parse(spool.read_bytes())
    return bool(events) and events[-1].get("status") == "FINISHED"


def _parse(content: bytes) -> tuple[list[Event], int]:
    """The events in ``content`` and the length of its whole lines; a line that is no JSON is passed over."""
    whole = content.rfind(b"\n") + 1
    return [event for line in content[:whole].splitlines() if (event := _event(line))], whole


def _event(line: bytes) -> Event | None:
    with suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict) and "event" in event:
            return event
    return None


def _state_of(spool: Path) -> Path:
    return spool.with_suffix(".state")


def _glob_literal(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _let_go_in_forked_children(writer: SpoolWriter) -> None:
    """A forked worker that outlives its killed parent would hold the parent's lock, and the run seem alive."""
    reference = weakref.ref(writer)

    def close() -> None:
        if (held := reference()) is not None:
            held.close()

    os.register_at_fork(after_in_child=close)

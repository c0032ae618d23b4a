"""Spools reach a store whole and in order, and none holds up another: with a store in memory."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.tracking import delivery, spool


class MemoryRun:
    discarded = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[spool.Event] = []
        self.ended: list[str] = []

    def send(self, events: Sequence[spool.Event], files: Path) -> None:
        if self.name == "poison":
            raise RuntimeError("refused\nfor reasons that take many lines")
        self.events += events

    def end(self, status: str, time_ms: int) -> None:
        self.ended.append(status)


class MemoryStore:
    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}

    def find(self, start: spool.Event) -> MemoryRun | None:
        return self.runs.get(start["identity"])

    def create(self, start: spool.Event) -> MemoryRun:
        return self.runs.setdefault(start["identity"], MemoryRun(start["name"]))


def record(directory: Path, name: str, *, end: str = "", steps: int = 1) -> Path:
    writer = spool.SpoolWriter(directory, f"{name}-x", {"identity": name, "name": name})
    for step in range(steps):
        writer.metrics({"loss": 1.0, "lr": 0.1}, step)
    if end:
        writer.append("end", status=end, step=steps)
    writer.close()
    return writer.path


def test_a_run_that_is_refused_holds_up_no_other(tmp_path):
    poison = record(tmp_path, "poison", end="FINISHED")
    record(tmp_path, "sound", end="FINISHED")
    store = MemoryStore()
    assert delivery.Feeder(tmp_path, lambda: store).deliver() == ["refused"]
    assert [event["event"] for event in store.runs["sound"].events] == ["start", "metrics", "end"]
    assert spool.spools(tmp_path) == [poison]
    assert delivery.undelivered(tmp_path) == [poison]


def test_lines_go_in_batches_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "BATCH_VALUES", 10)
    path = record(tmp_path, "long", steps=23)
    batches = []
    store = MemoryStore()
    monkeypatch.setattr(MemoryRun, "send", lambda self, events, files: batches.append(list(events)))
    delivery.Feeder(tmp_path, lambda: store).deliver()
    steps = [[event["step"] for event in batch if event["event"] == "metrics"] for batch in batches]
    assert [len(batch) for batch in steps] == [5, 5, 5, 5, 3]
    assert [step for batch in steps for step in batch] == list(range(23))
    assert store.runs["long"].ended == ["KILLED"]
    assert spool.Delivery.load(path) == spool.Delivery(path.stat().st_size, "KILLED")


def test_an_unfinished_record_is_kept_while_somebody_may_go_on_with_it(tmp_path):
    path = record(tmp_path, "failed", end="FAILED")
    store = MemoryStore()
    delivery.Feeder(tmp_path, lambda: store).deliver()
    assert path.exists()
    assert not delivery.undelivered(tmp_path)
    long_ago = time.time() - delivery.KEPT_SECONDS - 60
    os.utime(path, (long_ago, long_ago))
    delivery.Feeder(tmp_path, lambda: store).deliver()
    assert list(tmp_path.glob("failed*")) == []


def test_a_store_that_cannot_be_opened_is_tried_once_a_round(tmp_path):
    for name in ("one", "other"):
        record(tmp_path, name, end="FINISHED")
    tries = []

    def connect() -> MemoryStore:
        tries.append(1)
        raise ConnectionError("nobody there")

    assert delivery.deliver(tmp_path, connect, 5) == "nobody there"
    assert len(tries) == 1
    assert len(delivery.undelivered(tmp_path)) == 2

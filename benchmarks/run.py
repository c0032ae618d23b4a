"""All parts of a run, one after another; each part's result is data that `render.py` shows.

A candidate that can't run (a peer that is not installed, a stage without its data) costs its own row and
nothing else: the reason is kept with the results, shown in the table and printed loudly.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import integrity, machine, scaling, stage
from benchmarks.cases import CASES
from benchmarks.duel import Pace, duel
from benchmarks.process import ROOT, Bench, WorkerError
from benchmarks.workloads import WORKLOADS

Say = Callable[[str], None]
PARTS = (
    "train-30m",
    "train-124m",
    "decode-1",
    "decode-16",
    "prefill-512",
    "pretrain-stage",
    "integrity",
    "decode-int8",
    "tune-135m",
    "decode-135m",
    "quality",
    "first-token",
    "scaling",
)


def run(bench: Bench, pace: Pace, parts: list[str], *, quick: bool, against: str, say: Say) -> Iterator[dict[str, Any]]:
    """The document of the run after each part: date, machine, versions, and the parts so far."""
    started = time.monotonic()
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "versions": machine.versions(bench.peers),
        "threads": bench.threads,
        "quick": quick,
        "against": against,
        "pace": asdict(pace),
        "parts": {},
    }
    for name in parts:
        document["parts"][name] = _part(name, bench, pace, quick, against, say)
        document["minutes"] = (time.monotonic() - started) / 60
        yield document


def failures(document: dict[str, Any]) -> list[str]:
    """What was not measured, and why: a line each."""
    return [f"{name}: {why}" for name, part in document["parts"].items() for why in part["failed"]]


def _part(name: str, bench: Bench, pace: Pace, quick: bool, against: str, say: Say) -> dict[str, Any]:
    if name in CASES:
        return _duels(name, bench, pace, against, say)
    if name == "scaling":
        return _scaling(bench, pace, say)
    measure = {
        "pretrain-stage": lambda: stage.measure(bench, pace, quick=quick),
        "integrity": lambda: integrity.measure(quick=quick),
        "quality": lambda: _quality(bench),
    }
    try:
        return {"failed": [], **measure[name]()}
    except WorkerError as error:
        return {"failed": [_loud(str(error), say)]}


def _duels(name: str, bench: Bench, pace: Pace, against: str, say: Say) -> dict[str, Any]:
    part: dict[str, Any] = {"duels": [], "failed": []}
    for ours, theirs in CASES[name].duels:
        if against not in theirs:
            continue
        try:
            result = duel(bench, WORKLOADS[name], ours, theirs, pace)
        except WorkerError as error:
            part["failed"].append(_loud(str(error), say))
            continue
        part["duels"].append(result)
        ratio = result["summary"]["ratio"]
        say(f"{name}: {ours} over {theirs}: {ratio['median']:.2f} ({ratio['low']:.2f} – {ratio['high']:.2f})")
    return part


def _scaling(bench: Bench, pace: Pace, say: Say) -> dict[str, Any]:
    part: dict[str, Any] = {"points": [], "failed": []}
    for point in scaling.points():
        try:
            part["points"].append(scaling.measure_point(bench, pace, point))
        except WorkerError as error:
            part["failed"].append(_loud(f"{point.axis} {point.label}: {error}", say))
            continue
        speed = part["points"][-1]["tokens_per_s"]["median"]
        say(f"scaling: {point.axis} {point.label}: {speed:,.0f} tokens/s")
    return part


def _quality(bench: Bench) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.quality"]
    done = subprocess.run(command, cwd=ROOT, env=bench.environment("gptcore/fp32"), capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise WorkerError(f"bits/byte of narrower weights: {last[0]}; it needs `make repro` to have run")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _loud(why: str, say: Say) -> str:
    say(f"NOT MEASURED: {why}")
    return why


def default_peers() -> Path:
    """Where `make bench` installs the peers that are not in the lock."""
    return Path(sys.prefix) / "bench-peers"

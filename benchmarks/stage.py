"""The default pipeline's ``pretrain`` stage against the bare training step on the same shape.

The stage runs once, as its command, as a whole: process start, imports, data, evaluations, saved states, curve,
tracking.  It takes minutes, in which the machine's speed drifts; so every few seconds it is stopped (SIGSTOP, with
every process it has started), a warm worker does bare steps, and it goes on.  Its time is the time it was
allowed to run.  Its scratch, provenance and tracking database lie in a temporary folder, so that it neither resumes
an earlier training nor leaves a trace; the tracking database is made beforehand, as it is in all runs but
the first.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from benchmarks.duel import Pace, Spread, warm_up
from benchmarks.process import ROOT, Bench, Worker, WorkerError
from benchmarks.workloads import Workload

SLICE_SECONDS = 6.0
"""Of the stage between two looks at the bare step."""
QUICK_STEPS = 60
OTHER_TRACKING = ("MLFLOW_TRACKING", "GPTCORE_TRACKING")
"""Settings that would send the stage's record elsewhere, or switch it off."""
SHAPE = ("d_model", "n_layer", "n_head")


def measure(bench: Bench, pace: Pace, *, quick: bool) -> dict[str, Any]:
    """Seconds of the stage, its tokens/s, and the bare step's in the same minutes."""
    for name in ("windows", "tokenizer"):
        if not (ROOT / "data" / name / "manifest.json").is_file():
            raise WorkerError(f"data/{name}: missing; run `make repro` first, this part measures its pretrain stage")
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    if quick:
        params["pretrain"]["max_steps"] = QUICK_STEPS
    work = _bare_step(params)
    with tempfile.TemporaryDirectory(prefix="gptcore-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        YAML(typ="safe").dump(params, home / "params.yaml")
        environment = _environment(bench, home)
        _make_tracking_store(environment, home)
        with Worker(bench, "gptcore/auto", work) as bare:
            units = warm_up(bare, pace)
            seconds, rates = _run_in_slices(_command(home), environment, home, lambda: bare.run(units).rate)
    tokens = params["pretrain"]["max_steps"] * params["pretrain"]["accumulation_steps"] * work.batch * work.tokens
    return _facts(tokens, seconds, rates)


def _facts(tokens: int, seconds: float, bare_rates: list[float]) -> dict[str, Any]:
    stage = tokens / seconds
    bare = Spread.of(bare_rates)
    return {
        "stage_seconds": seconds,
        "stage_tokens": tokens,
        "stage": stage,
        "step": asdict(bare),
        "looks": len(bare_rates),
        "ratio": {"median": stage / bare.median, "low": stage / bare.high, "high": stage / bare.low},
    }


def _bare_step(params: dict[str, Any]) -> Workload:
    """The stage's training step: its model, batch and optimizer, on random data."""
    from gptcore.tokenizer import Tokenizer

    context, batch = params["windows"]["context_length"], params["pretrain"]["batch_windows"]
    return Workload(
        "train",
        vocab_size=Tokenizer.load(ROOT / "data" / "tokenizer").n_vocab,
        **{name: params["model"][name] for name in SHAPE},
        context_length=context,
        batch=batch,
        tokens=context,
        optimizer=params["pretrain"]["optimizer"],
        variant={name: value for name, value in params["model"].items() if name not in SHAPE},
    )


def _environment(bench: Bench, home: Path) -> dict[str, str]:
    inherited = bench.environment("gptcore/auto") | {"DVC_ROOT": str(home)}
    return {name: value for name, value in inherited.items() if not name.startswith(OTHER_TRACKING)}


def _make_tracking_store(environment: dict[str, str], home: Path) -> None:
    (home / "data" / ".scratch").mkdir(parents=True)
    script = "from pipeline.tracking import runs; runs.open_store()"
    done = subprocess.run([sys.executable, "-c", script], cwd=home, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise WorkerError(f"the tracking database could not be made: {done.stderr.strip().splitlines()[-1:]}")


def _command(home: Path) -> list[str]:
    places = {
        "windows": ROOT / "data" / "windows",
        "tokenizer": ROOT / "data" / "tokenizer",
        "out": home / "data" / "checkpoint",
        "curve": home / "data" / "curve.csv",
        "metrics": home / "data" / "metrics.json",
    }
    flags = [word for name, path in places.items() for word in (f"--{name}", str(path))]
    return [sys.executable, "-m", "pipeline", "pretrain", *flags]


def _run_in_slices(command: list[str], environment: dict[str, str], home: Path, look: Any) -> tuple[float, list[float]]:
    """Seconds that ``command`` was allowed to run, and what each ``look()`` between its slices returned."""
    rates = [look()]
    seconds = 0.0
    with open(home / "log", "w+") as log, _family(command, environment, home, log) as process:
        started = time.perf_counter()
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(SLICE_SECONDS)
                seconds += time.perf_counter() - started
                break
            with _paused(process):
                seconds += time.perf_counter() - started
                rates.append(look())
                started = time.perf_counter()
        if process.returncode:
            log.seek(0)
            raise WorkerError(f"the pretrain stage failed: {log.read().strip().splitlines()[-1:]}")
    rates.append(look())
    return seconds, rates


@contextmanager
def _family(command: list[str], environment: dict[str, str], home: Path, log: Any) -> Iterator[subprocess.Popen[str]]:
    """The process; afterwards neither it nor anything it started is left."""
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log, text=True)
    try:
        yield process
    finally:
        for member in [*_members(process), *_started_in(home)]:
            with suppress(psutil.Error):
                member.kill()
                member.wait(10)
        process.wait()


@contextmanager
def _paused(process: subprocess.Popen[str]) -> Iterator[None]:
    members = _members(process)
    for member in members:
        with suppress(psutil.Error):
            member.suspend()
    try:
        yield
    finally:
        for member in members:
            with suppress(psutil.Error):
                member.resume()


def _members(process: subprocess.Popen[str]) -> list[psutil.Process]:
    with suppress(psutil.Error):
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _started_in(home: Path) -> Iterator[psutil.Process]:
    """Processes of this user that the stage left behind: they work in its temporary folder."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and Path(process.cwd()) == home.resolve():
                yield process

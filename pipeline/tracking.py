"""Runs as MLflow shows them.  The only file that imports mlflow, and no stage ever waits for it.

A tracker is a view: the numbers of record are the files in ``data/metrics``.  So a stage only writes a spool
(``pipeline.spool``), and a feeder, ``python -m pipeline.tracking``, carries the spools to MLflow in a process
of its own: started by the first stage that finds none, at low priority, live every few seconds, gone some
seconds after the last writer.  Training pays microseconds a line; the feeder pays MLflow's import (1.4 s of
processor time) and its database.  A server that is down, hangs or refuses costs the feeder some seconds; the
spools wait and are replayed by whatever runs next, at the latest by ``--drain`` at the end of `make repro`.

Everything sent may be sent again without changing the result: a run is found by its identity before it is
made, and a metric's point is its step *and* the time in the spool, which MLflow stores once.  So a feeder
that dies between sending and noting leaves neither a gap nor a double.

There is one MLflow run per executed stage, inside one run per execution of the pipeline.  Without
``MLFLOW_TRACKING_URI`` the store is a SQLite file in the project's folder.  ``GPTCORE_TRACKING=off`` writes
nothing at all.

Rejected: MLflow's calls in the stage (one ``log_metric`` blocks 247 s when the server is down), its
asynchronous mode (points are lost without a word), and run ids kept in a stage's outs (outs would differ).
"""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psutil

from pipeline import environment, feeder, spool
from pipeline.spool import Event, SpoolWriter

PIPELINE_RUN = "GPTCORE_PIPELINE_RUN"
SWITCH = "GPTCORE_TRACKING"
EXPERIMENT = "gptcore"
IDENTITY = "gptcore.run"  # the tag by which a run is found again
PARENT = "mlflow.parentRunId"

PATIENT_HTTP = {  # by default a dead server holds a single call for 247 s
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
BATCH_METRICS, BATCH_PARAMS = 1000, 100  # MLflow's limits
PARAM_CHARACTERS, TAG_CHARACTERS, DIGEST_CHARACTERS = 6000, 8000, 36


# --- What a stage sees ------------------------------------------------------------------------------------


class Tracker(Protocol):
    """Where a stage puts what is worth watching.  Losing all of it changes no result."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record the values of one step."""

    def artifact(self, path: Path, name: str) -> None:
        """Keep the small file at ``path`` (a plot, samples, a card) under ``name``, e.g. ``plots/loss.png``."""


class NullTracker:
    """Keeps nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def artifact(self, path: Path, name: str) -> None: ...

    def finish(self, metrics: Mapping[str, Any]) -> None: ...

    def fail(self, reason: str, status: str = "FAILED") -> None: ...


class SpoolTracker:
    """Writes a run's spool; a disk that refuses ends the record, never the run."""

    def __init__(self, directory: Path, key: str, facts: Mapping[str, Any]) -> None:
        self._end: dict[str, Any] = {"status": "FINISHED"}
        self._spool: SpoolWriter | None = None
        self._guarded(lambda: setattr(self, "_spool", SpoolWriter(directory, key, facts)))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._write(lambda spool: spool.metrics(metrics, step))

    def artifact(self, path: Path, name: str) -> None:
        if self._spool is not None:
            try:
                self._spool.artifact(path, name)
            except OSError as error:
                print(f"tracking: {name} is left out of the record: {error}", file=sys.stderr)

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """The stage's returned metrics, the same as in its metrics file."""
        self._end["metrics"] = dict(metrics)

    def fail(self, reason: str, status: str = "FAILED") -> None:
        self._end |= {"status": status, "reason": reason}

    def close(self) -> None:
        # One step behind the curves: the numbers of record are each metric's latest value, and no step has two.
        self._write(lambda spool: spool.append("end", step=spool.last_step + 1, **self._end))
        self._write(SpoolWriter.close)

    def _write(self, action: Callable[[SpoolWriter], None]) -> None:
        if (writer := self._spool) is not None:
            self._guarded(lambda: action(writer))

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, ValueError, TypeError) as error:
            self._spool = None
            print(f"tracking: this run's record ends here: {error}", file=sys.stderr)


@contextmanager
def run(
    stage: str,
    fingerprint: str,
    params: Mapping[str, object],
    inputs: Mapping[str, str],
    tags: Mapping[str, str],
) -> Iterator[SpoolTracker | NullTracker]:
    """Record one execution of ``stage``; the same stage and fingerprint go on with a run that was killed.

    ``inputs`` maps the name of each input to its content hash.  An exception in the body marks the run
    FAILED, an interrupt KILLED; both pass through.
    """
    facts = {
        "identity": _new_identity(),
        "name": stage,
        "parent": _pipeline_run(),
        "params": flatten(params),
        "inputs": dict(inputs),
        "tags": _common_tags(f"python -m pipeline {stage}")
        | {"stage": stage, "fingerprint": fingerprint}
        | {f"input.{name}": digest for name, digest in inputs.items()}
        | dict(tags),
    }
    with _recorded(f"{stage}-{fingerprint[:16]}", facts) as tracker:
        yield tracker


@contextmanager
def execution(targets: Sequence[str] = ()) -> Iterator[SpoolTracker | NullTracker]:
    """Record one execution of the pipeline, the parent of the runs of its stages; nested ones are one."""
    if os.environ.get(PIPELINE_RUN):
        yield NullTracker()
        return
    identity = _new_identity()
    name = " ".join(["repro", *targets])
    facts = {"identity": identity, "name": name, "tags": _common_tags(f"make {name}"), "resumable": False}
    os.environ[PIPELINE_RUN] = identity
    try:
        with _recorded(f"repro-{identity}", facts) as tracker:
            yield tracker
    finally:
        del os.environ[PIPELINE_RUN]


@contextmanager
def _recorded(key: str, facts: Mapping[str, Any]) -> Iterator[SpoolTracker | NullTracker]:
    if os.environ.get(SWITCH, "").lower() == "off":
        yield NullTracker()
        return
    tracker = SpoolTracker(spool_directory(), key, facts)
    _start_feeder()
    try:
        yield tracker
    except Exception as error:
        tracker.fail(str(error))
        raise
    except BaseException as interrupt:
        tracker.fail(type(interrupt).__name__, "KILLED")
        raise
    finally:
        tracker.close()


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"model": {"n_layer": 3}}`` → ``{"model.n_layer": 3}``: names as `dvc exp run --set-param` has them."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        inner = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def spool_directory() -> Path:
    return environment.scratch() / "spool"


def _new_identity() -> str:
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def _pipeline_run() -> str | None:
    """What groups the stages of one execution: our own id, or the `dvc repro` that started this process."""
    if identity := os.environ.get(PIPELINE_RUN):
        return identity
    with suppress(psutil.Error):
        for parent in psutil.Process().parents():
            if any(Path(word).name == "dvc" for word in parent.cmdline()[:3]):
                return f"dvc-{parent.pid}-{parent.create_time():.2f}"
    return None


def _common_tags(command: str) -> dict[str, str]:
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": command}
    with suppress(OSError, subprocess.SubprocessError):
        tags["mlflow.source.git.commit"] = _git("rev-parse", "HEAD")
        tags["git.dirty"] = str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower()
    if name := os.environ.get("DVC_EXP_NAME"):
        tags["dvc.experiment"] = name
    return tags


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(command, cwd=environment.root(), capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _start_feeder() -> None:
    """Start a feeder unless one is at work; it outlives the stage and holds none of its files."""
    with suppress(OSError):
        with spool.locked(feeder.lock_of(spool_directory()), wait=False) as idle:
            pass
        if idle:
            _spawn_feeder()


def _spawn_feeder() -> None:
    surroundings = {**os.environ, "PYTHONPATH": environment.module_path(), "DVC_ROOT": str(environment.root())}
    with open(spool_directory() / "feeder.log", "wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "pipeline.tracking"],
            cwd=environment.root(),
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def deliver(timeout_seconds: float = 60.0) -> bool:
    """Wait until every ended run is in MLflow; prints one line and returns False where that can't be."""
    if not (reason := feeder.deliver(spool_directory(), MLflowStore, timeout_seconds)):
        return True
    count = len(feeder.undelivered(spool_directory()))
    print(
        f"tracking: {count} run(s) not delivered to {tracking_uri()} ({reason}); "
        f"kept in {spool_directory()} and replayed by the next run",
        file=sys.stderr,
    )
    return False


# --- MLflow -----------------------------------------------------------------------------------------------


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else a database in the project's folder, whatever the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{environment.root() / 'mlflow.db'}"


def artifact_root() -> Path:
    """Where the default store keeps artifacts."""
    return environment.root() / "mlartifacts"


class MLflowStore:
    """MLflow as a store of runs; opening it makes the database and the experiment."""

    def __init__(self) -> None:
        environment.quiet()
        for name, value in PATIENT_HTTP.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # Two processes that make the same SQLite database at once wreck it for good.
        with spool.locked(environment.scratch() / "mlflow.lock", wait=True):
            self.client = MlflowClient(tracking_uri())
            self._experiment = self._experiment_id()

    def find(self, start: Event) -> "MLflowRun | None":
        found = self._search(start["identity"])
        return MLflowRun(self, found, start.get("parent")) if found else None

    def create(self, start: Event) -> "MLflowRun":
        return MLflowRun(self, self._create(start), start.get("parent"))

    def parent(self, identity: str) -> str:
        """The MLflow id of the run that groups an execution's stages."""
        placeholder = {"identity": identity, "name": "repro", "time_ms": spool.now_ms()}
        return (self._search(identity) or self._create(placeholder)).info.run_id

    def _search(self, identity: str) -> Any:
        from mlflow.entities import ViewType

        query = f"tags.`{IDENTITY}` = '{identity}'"
        found = self.client.search_runs([self._experiment], query, run_view_type=ViewType.ALL, max_results=1)
        return found[0] if found else None

    def _create(self, start: Event) -> Any:
        tags = {IDENTITY: start["identity"]}
        return self.client.create_run(self._experiment, start["time_ms"], tags, run_name=start["name"])

    def _experiment_id(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        if found := self.client.get_experiment_by_name(name):
            return found.experiment_id
        place = None if os.environ.get("MLFLOW_TRACKING_URI") else artifact_root().as_uri()
        kind = {"mlflow.experimentKind": "custom_model_development"}  # else the page opens for chat traces
        return self.client.create_experiment(name, artifact_location=place, tags=kind)


class MLflowRun:
    """One run in MLflow; see ``feeder.Run``."""

    def __init__(self, store: MLflowStore, run: Any, parent: str | None) -> None:
        self._store = store
        self._client = store.client
        self._id = run.info.run_id
        self._parent = parent
        self.discarded = run.info.lifecycle_stage == "deleted"

    def send(self, events: Sequence[Event], files: Path) -> None:
        self._log_points([point for event in events for point in _points(event)])
        for event in events:
            if event["event"] in ("start", "resume"):
                self._begin(event)
            elif event["event"] == "artifact":
                self._log_file(files / event["name"], event["name"])
            elif event["event"] == "end":
                self._conclude(event)

    def end(self, status: str, time_ms: int) -> None:
        self._client.set_terminated(self._id, status, time_ms)
        if self._parent and self._parent.startswith("dvc-"):  # nobody else ends the parent of a plain `dvc repro`
            self._client.set_terminated(self._store.parent(self._parent), status, time_ms)

    def _begin(self, event: Event) -> None:
        self._parent = event.get("parent")
        tags = dict(event.get("tags", {}))
        if self._parent:
            tags[PARENT] = self._store.parent(self._parent)
        self._log_facts({} if event["event"] == "resume" else event.get("params", {}), tags)
        self._log_inputs(event.get("inputs", {}))
        self._client.update_run(self._id, status="RUNNING", name=event["name"])

    def _conclude(self, event: Event) -> None:
        words = {f"result.{k}": v for k, v in _flat_metrics(event).items() if not _is_number(v)}
        self._log_facts({}, words | ({"reason": event["reason"]} if "reason" in event else {}))
        self.end(event["status"], event["time_ms"])

    def _log_points(self, points: Sequence[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        for batch in _slices(points, BATCH_METRICS):
            metrics = [Metric(key, value, time_ms, step) for key, value, time_ms, step in batch]
            self._client.log_batch(self._id, metrics=metrics)

    def _log_facts(self, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        from mlflow.entities import Param, RunTag

        for batch in _slices(list(params.items()), BATCH_PARAMS):
            entities = [Param(_allowed(k), str(v)[:PARAM_CHARACTERS]) for k, v in batch]
            self._client.log_batch(self._id, params=entities)
        for batch in _slices(list(tags.items()), BATCH_PARAMS):
            self._client.log_batch(self._id, tags=[RunTag(_allowed(k), str(v)[:TAG_CHARACTERS]) for k, v in batch])

    def _log_inputs(self, inputs: Mapping[str, str]) -> None:
        """Name the data that went in; nothing of it is read."""
        from mlflow.entities import Dataset, DatasetInput

        datasets = [
            Dataset(name, digest[:DIGEST_CHARACTERS], "local", json.dumps({"uri": name, "content_hash": digest}))
            for name, digest in inputs.items()
        ]
        if datasets:
            self._client.log_inputs(self._id, [DatasetInput(dataset) for dataset in datasets])

    def _log_file(self, file: Path, name: str) -> None:
        if file.exists():
            self._client.log_artifact(self._id, str(file), str(Path(name).parent) if "/" in name else None)


def _points(event: Event) -> Iterator[tuple[str, float, int, int]]:
    """The (name, value, time, step) of a line; of the last line, the stage's final metrics."""
    values = event.get("values", {}) if event["event"] == "metrics" else _flat_metrics(event)
    for name, value in values.items():
        if _is_number(value):
            yield _allowed(name), float(value), event["time_ms"], event["step"]


def _flat_metrics(event: Event) -> dict[str, Any]:
    return flatten(event.get("metrics", {}))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def _allowed(name: str) -> str:
    """``name`` with what MLflow doesn't allow in one replaced."""
    return re.sub(r"[^\w.\- :/]", "_", name)


def _slices(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def main() -> None:
    """``python -m pipeline.tracking``: feed; with ``--drain`` deliver what was left behind and end."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tracking", description=main.__doc__)
    parser.add_argument("--drain", action="store_true", help="deliver what is spooled, then end")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for --drain")
    options = parser.parse_args()
    os.nice(10)
    if options.drain:
        sys.exit(0 if deliver(options.timeout) else 1)
    feeder.feed(spool_directory(), MLflowStore)


if __name__ == "__main__":
    main()

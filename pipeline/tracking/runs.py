"""Runs as a tracker shows them, and no stage ever waits for it.

A tracker is a view: the numbers of record are the files in ``data/metrics``.  So a stage only writes a spool
(`spool.py`), and a feeder, ``python -m pipeline.tracking``, carries the spools to a store in a process
of its own: started by the first stage that finds none, at low priority, live every few seconds, gone some
seconds after the last writer.  Training pays microseconds a line; the feeder pays the store's imports (1.4 s of
processor time for MLflow) and its database.  A server that is down, hangs or refuses costs the feeder some seconds;
the spools wait and are replayed by whatever runs next, at the latest by ``--drain`` at the end of `make repro`.

There is one run per executed stage, inside one run per execution of the pipeline.  ``GPTCORE_TRACKING`` names the
store (`stores`; without it MLflow); ``GPTCORE_TRACKING=off`` writes nothing at all.

Rejected: the store's calls in the stage (one ``log_metric`` of MLflow blocks 247 s when the server is down), its
asynchronous mode (points are lost without a word), and run ids kept in a stage's outs (outs would differ).
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from gptcore.errors import ParameterError
from pipeline import locks, project
from pipeline.git import git, is_changed
from pipeline.holders import is_dvc
from pipeline.store.plain import flatten
from pipeline.tracking import delivery
from pipeline.tracking.spool import SpoolWriter
from pipeline.tracking.stores import STORES
from pipeline.tracking.tracker import NullTracker

PIPELINE_RUN = "GPTCORE_PIPELINE_RUN"
SWITCH = "GPTCORE_TRACKING"
DEFAULT = "mlflow"


class SpoolTracker:
    """Writes a run's spool; a disk that refuses ends the record, never the run."""

    def __init__(self, directory: Path, key: str, facts: Mapping[str, Any]) -> None:
        self._end: dict[str, Any] = {"status": "FINISHED"}
        self._spool: SpoolWriter | None = None
        with self._surviving():
            self._spool = SpoolWriter(directory, key, facts)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        with self._surviving():
            if self._spool is not None:
                self._spool.metrics(metrics, step)

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
        """Write the last line.

        Its metrics get a step of their own, one above the curves': a store shows a metric's value at its highest
        step, which must be the number of record, and keeps one value for a step.
        """
        with self._surviving():
            if self._spool is not None:
                self._spool.append("end", step=self._spool.last_step + 1, **self._end)
                self._spool.close()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
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


def spool_directory() -> Path:
    return project.scratch() / "spool"


def open_store() -> delivery.Store:
    """The store that ``GPTCORE_TRACKING`` names."""
    if _store_name() not in STORES:
        raise ParameterError(
            f"{SWITCH}={_store_name()}: no tracker of this name; expected off or one of {', '.join(STORES.names())}"
        )
    return STORES[_store_name()]()  # type: ignore[no-any-return]


def _store_name() -> str:
    chosen = os.environ.get(SWITCH, "")
    return DEFAULT if chosen.lower() in ("", "on") else chosen


def _new_identity() -> str:
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def _pipeline_run() -> str | None:
    """What groups the stages of one execution: our own id, or the `dvc repro` that started this process."""
    if identity := os.environ.get(PIPELINE_RUN):
        return identity
    with suppress(psutil.Error):
        for parent in psutil.Process().parents():
            if is_dvc(parent.cmdline()):
                return f"dvc-{parent.pid}-{parent.create_time():.2f}"
    return None


def _common_tags(command: str) -> dict[str, str]:
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": command}
    if commit := git(project.root(), "rev-parse", "HEAD").strip():
        tags["mlflow.source.git.commit"] = commit
        tags["git.dirty"] = str(is_changed(project.root())).lower()
    if name := os.environ.get("DVC_EXP_NAME"):
        tags["dvc.experiment"] = name
    return tags


def _start_feeder() -> None:
    """Start a feeder unless one is at work; it outlives the stage and holds none of its files."""
    with suppress(OSError):
        with locks.held(delivery.lock_of(spool_directory()), wait=False) as idle:
            pass
        if idle is not None:
            _spawn_feeder()


def _spawn_feeder() -> None:
    surroundings = {**os.environ, "PYTHONPATH": project.module_path(), "DVC_ROOT": str(project.root())}
    with open(spool_directory() / "feeder.log", "wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "pipeline.tracking"],
            cwd=project.root(),
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def deliver(timeout_seconds: float = 60.0) -> bool:
    """Wait until every ended run is in MLflow; prints one line and returns False where that can't be."""
    if not (reason := delivery.deliver(spool_directory(), open_store, timeout_seconds)):
        return True
    count = len(delivery.undelivered(spool_directory()))
    print(
        f"tracking: {count} run(s) not delivered to {_store_name()} ({reason}); "
        f"kept in {spool_directory()} and replayed by the next run",
        file=sys.stderr,
    )
    return False

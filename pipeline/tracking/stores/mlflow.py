"""MLflow as a store of runs.  The only file that imports mlflow.

Everything sent may be sent again without changing the result: a run is found by its identity before it is
made, and a metric's point is its step *and* the time in the spool, which MLflow stores once.  So a feeder
that dies between sending and noting leaves neither a gap nor a double.

Without ``MLFLOW_TRACKING_URI`` the store is a SQLite file in the project's folder.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import locks, project
from pipeline.store.plain import flatten
from pipeline.tracking.spool import Event, now_ms

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


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else a database in the project's folder, whatever the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project.root() / 'mlflow.db'}"


def artifact_root() -> Path:
    """Where the default store keeps artifacts."""
    return project.root() / "mlartifacts"


class MLflowStore:
    """MLflow as a store of runs; opening it makes the database and the experiment."""

    def __init__(self) -> None:
        project.quiet()
        for name, value in PATIENT_HTTP.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # Two processes that make the same SQLite database at once wreck it for good.
        with locks.held(project.scratch() / "mlflow.lock"):
            self.client = MlflowClient(tracking_uri())
            self._experiment = self._experiment_id()

    def find(self, start: Event) -> "MLflowRun | None":
        found = self._search(start["identity"])
        return MLflowRun(self, found, start.get("parent")) if found else None

    def create(self, start: Event) -> "MLflowRun":
        return MLflowRun(self, self._create(start), start.get("parent"))

    def parent(self, identity: str) -> str:
        """The MLflow id of the run that groups an execution's stages."""
        placeholder = {"identity": identity, "name": "repro", "time_ms": now_ms()}
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
    """One run in MLflow; see ``delivery.Run``."""

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


STORE = MLflowStore

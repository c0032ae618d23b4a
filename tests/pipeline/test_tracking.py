"""A run's record reaches MLflow whole, once, and without the run ever waiting for it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import environment, feeder, spool, tracking

PROJECT = Path(__file__).resolve().parents[2]

# A trainer as ours are: a checkpoint every 10 steps, resumed from the last one, killed at a step if told to.
TRAINER = """
import json, os, signal, sys, time
from pathlib import Path
from pipeline import tracking

steps, seconds, die_at = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
lr = float(sys.argv[4]) if len(sys.argv) > 4 else 0.1
checkpoint = Path("checkpoint")
first = int(checkpoint.read_text()) if checkpoint.exists() else 0
fingerprint = f"{lr}".replace(".", "") * 16
with tracking.run("pretrain", fingerprint, {"model": {"n_layer": 3}, "pretrain": {"lr": lr}},
                  {"windows": "a" * 64}, {"machine_class": "toy"}) as tracker:
    slowest = 0.0
    for step in range(first + 1, steps + 1):
        began = time.perf_counter()
        tracker.log({"loss_nats_per_token": 1 / step, "lr": lr}, step)
        if step % 10 == 0:
            tracker.log({"val_nats_per_token": 2 / step}, step)
        slowest = max(slowest, time.perf_counter() - began)
        if step % 10 == 0:
            checkpoint.write_text(str(step))
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
    Path("curve.csv").write_text("step,loss")
    tracker.artifact(Path("curve.csv"), "plots/curve.csv")
    tracker.finish({"loss_nats_per_token": 0.5, "per class": {"earn": 0.9}, "format": "safetensors"})
print("slowest", slowest)
"""


class Project:
    """A folder in which stages run and leave their records."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.environment = environment
        self.spools = root / "data" / ".scratch" / "spool"

    def start(self, *arguments: object, code: str = TRAINER) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def train(self, *arguments: object, code: str = TRAINER) -> int:
        process = self.start(*arguments, code=code)
        self.said = process.communicate(timeout=120)
        return process.returncode

    def drain(self, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline.tracking", "--drain", "--timeout", str(timeout)]
        return subprocess.run(
            command, cwd=self.root, env=self.environment, text=True, capture_output=True, timeout=timeout + 60
        )

    def feeders(self) -> list[psutil.Process]:
        return [p for p in psutil.process_iter() if "pipeline.tracking" in _command(p) and _folder(p) == self.root]

    @property
    def store(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}")

    def runs(self, name: str | None = None) -> list[Any]:
        experiment = self.store.get_experiment_by_name("gptcore")
        runs = self.store.search_runs([experiment.experiment_id], order_by=["start_time"])
        return [run for run in runs if name in (None, run.info.run_name)]

    def steps(self, run: Any, metric: str) -> list[int]:
        return [point.step for point in self.store.get_metric_history(run.info.run_id, metric)]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root = tmp_path / "project"
    root.mkdir()
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "DVC_", "GPTCORE_", "GIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name, value in environment.QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    project = Project(root, dict(os.environ))
    yield project
    for process in project.feeders():
        process.kill()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _folder(process: psutil.Process) -> Path | None:
    try:
        return Path(process.cwd())
    except (psutil.Error, OSError):
        return None


# --- what a stage sees ---


def test_a_stage_never_imports_mlflow(project):
    code = TRAINER + "\nassert not {'mlflow', 'prefect', 'pandas'} & set(sys.modules)"
    assert project.train(3, 0, 0, code=code) == 0, project.said


def test_switched_off_nothing_is_written(project):
    project.environment["GPTCORE_TRACKING"] = "off"
    assert project.train(3, 0, 0) == 0
    assert not project.spools.exists()
    assert not project.feeders()


def test_a_disk_that_refuses_ends_the_record_and_not_the_run(project):
    project.spools.parent.mkdir(parents=True)
    project.spools.write_text("a file where the folder should be")
    assert project.train(20, 0, 0) == 0
    assert project.said[1].count("this run's record ends here") == 1


def test_an_artifact_that_is_missing_or_huge_is_left_out_and_said(project, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "_start_feeder", lambda: None)
    monkeypatch.setattr(spool, "LARGEST_ARTIFACT_BYTES", 10)
    (project.root / "huge").write_text("x" * 11)
    with tracking.run("pretrain", "f" * 64, {}, {}, {}) as tracker:
        tracker.artifact(project.root / "missing", "missing.csv")
        tracker.artifact(project.root / "huge", "huge.csv")
        tracker.log({"loss": 1.0}, 1)
    said = capsys.readouterr().err
    assert "missing.csv is left out" in said
    assert "huge.csv is left out" in said
    events, _ = spool.read(spool.spools(project.spools)[0], 0)
    assert [event["event"] for _, event in events] == ["start", "metrics", "end"]


def test_a_full_disk_ends_the_record_and_not_the_run(project):
    code = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n" + TRAINER
    )
    assert project.train(200, 0, 0, code=code) == 0, project.said
    assert project.said[1].count("this run's record ends here") == 1


def test_a_line_costs_microseconds(project, monkeypatch):
    monkeypatch.setattr(tracking, "_start_feeder", lambda: None)
    with tracking.run("pretrain", "f" * 64, {}, {}, {}) as tracker:
        began = time.perf_counter()
        for step in range(2000):
            tracker.log({"loss_nats_per_token": 1.0, "lr": 0.1, "tokens_per_second": 1e4}, step)
        assert (time.perf_counter() - began) / 2000 < 1e-3  # 20 µs on a quiet machine


def test_the_first_and_last_line_say_what_ran_and_how_it_ended(project, monkeypatch):
    monkeypatch.setattr(tracking, "_start_feeder", lambda: None)
    monkeypatch.setenv("DVC_EXP_NAME", "brave-otter")
    with tracking.run("pretrain", "f" * 64, {"model": {"n_layer": 3}}, {"windows": "a"}, {"extra": "1"}) as tracker:
        tracker.log({"loss": 1.0}, 7)
        tracker.finish({"accuracy": 0.5})
    events, _ = spool.read(spool.spools(project.spools)[0], 0)
    start, end = events[0][1], events[-1][1]
    assert start["params"] == {"model.n_layer": 3}
    assert start["inputs"] == {"windows": "a"}
    expected = {"stage": "pretrain", "fingerprint": "f" * 64, "extra": "1", "input.windows": "a"}
    assert expected.items() <= start["tags"].items()
    assert start["tags"]["dvc.experiment"] == "brave-otter"
    assert (end["status"], end["metrics"], end["step"]) == ("FINISHED", {"accuracy": 0.5}, 8)


@pytest.mark.parametrize(("error", "status"), [(ValueError("bad"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_an_exception_marks_the_run_and_passes_through(project, monkeypatch, error, status):
    monkeypatch.setattr(tracking, "_start_feeder", lambda: None)
    with pytest.raises(type(error)):
        with tracking.run("pretrain", "f" * 64, {}, {}, {}):
            raise error
    events, _ = spool.read(spool.spools(project.spools)[0], 0)
    assert events[-1][1]["status"] == status


def test_another_fingerprint_or_a_finished_run_is_another_spool(project, monkeypatch):
    monkeypatch.setattr(tracking, "_start_feeder", lambda: None)
    for fingerprint in ("a" * 64, "b" * 64, "a" * 64):
        with tracking.run("pretrain", fingerprint, {}, {}, {}):
            pass
    assert len(spool.spools(project.spools)) == 3


def test_a_torn_line_is_cut_off_and_known_steps_are_not_repeated(project):
    writer = spool.SpoolWriter(project.spools, "pretrain-x", {"identity": "1"})
    for step in (1, 2, 3):
        writer.metrics({"loss": 1.0}, step)
    writer.metrics({"lr": 0.1}, 2)
    writer.close()
    with open(writer.path, "ab") as file:
        file.write(b'{"event": "metrics", "step": 4, "val')
    again = spool.SpoolWriter(project.spools, "pretrain-x", {"identity": "2"})
    for step in (2, 3, 4):
        again.metrics({"loss": 1.0, "lr": 0.1}, step)
    again.close()
    assert again.path == writer.path
    points = [
        (event["step"], name)
        for _, event in spool.read(writer.path, 0)[0]
        if event["event"] == "metrics"
        for name in event["values"]
    ]
    assert sorted(points) == [(1, "loss"), (2, "loss"), (2, "lr"), (3, "loss"), (3, "lr"), (4, "loss"), (4, "lr")]
    lines = writer.path.read_text().splitlines()
    assert all(json.loads(line) for line in lines)


def test_two_live_writers_of_one_run_do_not_share_a_file(project, monkeypatch):
    monkeypatch.setattr(spool, "LOCK_PATIENCE_SECONDS", 0.05)
    one = spool.SpoolWriter(project.spools, "tokenize-x", {"identity": "1"})
    other = spool.SpoolWriter(project.spools, "tokenize-x", {"identity": "2"})
    assert one.path != other.path
    assert len(feeder.live(project.spools)) == 2
    one.close()
    assert feeder.live(project.spools) == [other.path]
    other.close()


def test_a_worker_that_outlives_its_killed_parent_does_not_keep_the_run_alive(project, wait_for):
    code = """
import os, signal, time
from pathlib import Path
from pipeline import spool
writer = spool.SpoolWriter(Path("data/.scratch/spool"), "tokenize-x", {"identity": "1"})
if (worker := os.fork()) == 0:
    time.sleep(60)
Path("worker").write_text(str(worker))
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = project.start(code=code)
    assert process.wait(30) == -signal.SIGKILL
    worker = int((project.root / "worker").read_text())
    assert psutil.pid_exists(worker)
    assert feeder.live(project.spools) == []
    os.kill(worker, signal.SIGKILL)


# --- the feeder, with a store in memory ---


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
    assert feeder.Feeder(tmp_path, lambda: store).deliver() == ["refused"]
    assert [event["event"] for event in store.runs["sound"].events] == ["start", "metrics", "end"]
    assert spool.spools(tmp_path) == [poison]
    assert feeder.undelivered(tmp_path) == [poison]


def test_lines_go_in_batches_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(feeder, "BATCH_VALUES", 10)
    path = record(tmp_path, "long", steps=23)
    batches = []
    store = MemoryStore()
    monkeypatch.setattr(MemoryRun, "send", lambda self, events, files: batches.append(list(events)))
    feeder.Feeder(tmp_path, lambda: store).deliver()
    steps = [[event["step"] for event in batch if event["event"] == "metrics"] for batch in batches]
    assert [len(batch) for batch in steps] == [5, 5, 5, 5, 3]
    assert [step for batch in steps for step in batch] == list(range(23))
    assert store.runs["long"].ended == ["KILLED"]
    assert spool.Delivery.load(path) == spool.Delivery(path.stat().st_size, "KILLED")


def test_an_unfinished_record_is_kept_while_somebody_may_go_on_with_it(tmp_path):
    path = record(tmp_path, "failed", end="FAILED")
    store = MemoryStore()
    feeder.Feeder(tmp_path, lambda: store).deliver()
    assert path.exists()
    assert not feeder.undelivered(tmp_path)
    long_ago = time.time() - feeder.KEPT_SECONDS - 60
    os.utime(path, (long_ago, long_ago))
    feeder.Feeder(tmp_path, lambda: store).deliver()
    assert list(tmp_path.glob("failed*")) == []


def test_a_store_that_cannot_be_opened_is_tried_once_a_round(tmp_path):
    for name in ("one", "other"):
        record(tmp_path, name, end="FINISHED")
    tries = []

    def connect() -> MemoryStore:
        tries.append(1)
        raise ConnectionError("nobody there")

    assert feeder.deliver(tmp_path, connect, 5) == "nobody there"
    assert len(tries) == 1
    assert len(feeder.undelivered(tmp_path)) == 2


# --- what MLflow gets ---


def test_everything_arrives_and_nothing_is_left_behind(project, wait_for):
    assert project.train(25, 0, 0) == 0
    assert project.drain().returncode == 0
    (run,) = project.runs()
    assert (run.info.run_name, run.info.status) == ("pretrain", "FINISHED")
    assert run.data.params == {"model.n_layer": "3", "pretrain.lr": "0.1"}
    assert project.steps(run, "loss_nats_per_token") == list(range(1, 27))  # the number of record is the latest
    assert project.steps(run, "val_nats_per_token") == [10, 20]
    assert run.data.metrics["loss_nats_per_token"] == 0.5
    assert run.data.metrics["per class.earn"] == 0.9
    expected = {"machine_class": "toy", "stage": "pretrain", "input.windows": "a" * 64, "result.format": "safetensors"}
    assert expected.items() <= run.data.tags.items()
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("windows", "a" * 36)
    assert json.loads(dataset.source)["content_hash"] == "a" * 64
    artifact = project.store.download_artifacts(run.info.run_id, "plots/curve.csv", str(project.root))
    assert Path(artifact).read_text() == "step,loss"
    assert spool.spools(project.spools) == []
    assert list(project.spools.glob("*.files")) == []
    assert not (project.root / "mlruns").exists()
    wait_for(lambda: not project.feeders())  # it ends by itself


@pytest.mark.slow
def test_a_run_shows_while_it_runs(project, wait_for):
    process = project.start(200, 0.1, 0)
    wait_for(lambda: _count(project) > 10, 60)
    assert process.poll() is None, "the run was over before anything showed"
    assert project.runs()[0].info.status == "RUNNING"
    process.kill()


def _count(project: Project) -> int:
    """How many points of the only run have arrived so far."""
    if not (project.root / "mlflow.db").exists():
        return 0
    with spool.locked(project.root / "data" / ".scratch" / "mlflow.lock", wait=True):  # the database is being made
        runs = project.runs()
    return len(project.steps(runs[0], "loss_nats_per_token")) if runs else 0


def test_killed_twice_and_resumed_it_is_one_run_with_every_step_once(project, wait_for):
    assert project.train(40, 0.01, 15) == -signal.SIGKILL  # checkpoint at 10
    assert project.drain().returncode == 0
    assert project.runs()[0].info.status == "KILLED"
    assert project.train(40, 0.01, 33) == -signal.SIGKILL
    assert project.train(40, 0.01, 0) == 0
    assert project.drain().returncode == 0
    (run,) = project.runs()
    assert run.info.status == "FINISHED"
    assert project.steps(run, "loss_nats_per_token") == list(range(1, 42))
    assert project.steps(run, "val_nats_per_token") == [10, 20, 30, 40]


def test_what_is_sent_twice_is_there_once(project):
    """A feeder that died between sending and noting how far it got, in the worst case at every single line."""
    assert project.train(30, 0, 29) == -signal.SIGKILL
    assert project.drain().returncode == 0
    (path,) = spool.spools(project.spools)
    spool.Delivery().save(path)
    assert project.drain().returncode == 0
    (run,) = project.runs()
    assert project.steps(run, "loss_nats_per_token") == list(range(1, 30))
    assert len(run.inputs.dataset_inputs) == 1


@pytest.mark.slow
def test_a_feeder_killed_at_work_loses_and_doubles_nothing(project, wait_for):
    process = project.start(60, 0.1, 0)
    wait_for(lambda: _count(project) > 5, 60)
    for worker in project.feeders():
        worker.kill()
    process.communicate(timeout=60)
    assert project.drain().returncode == 0
    (run,) = project.runs()
    assert project.steps(run, "loss_nats_per_token") == list(range(1, 62))


@pytest.mark.slow
def test_a_store_that_was_deleted_gets_the_whole_record_again(project, wait_for):
    assert project.train(20, 0, 15) == -signal.SIGKILL
    assert project.drain().returncode == 0
    wait_for(lambda: not project.feeders())
    (project.root / "mlflow.db").unlink()
    assert project.train(20, 0, 0) == 0
    assert project.drain().returncode == 0
    (run,) = project.runs()
    assert project.steps(run, "loss_nats_per_token") == list(range(1, 22))
    assert run.data.params["pretrain.lr"] == "0.1"


@pytest.mark.slow
def test_a_run_that_was_thrown_away_stays_away(project, wait_for):
    assert project.train(20, 0, 15) == -signal.SIGKILL
    assert project.drain().returncode == 0
    wait_for(lambda: not project.feeders())
    project.store.delete_run(project.runs()[0].info.run_id)
    assert project.train(20, 0, 0) == 0
    assert project.drain().returncode == 0
    assert project.runs() == []
    assert spool.spools(project.spools) == []


def test_runs_that_differ_in_their_parameters_can_be_compared(project):
    for lr in (0.1, 0.3):
        (project.root / "checkpoint").unlink(missing_ok=True)
        assert project.train(5, 0, 0, lr) == 0
    assert project.drain().returncode == 0
    experiment = project.store.get_experiment_by_name("gptcore").experiment_id
    found = project.store.search_runs([experiment], "params.`pretrain.lr` = '0.3' and tags.stage = 'pretrain'")
    assert [run.data.params["pretrain.lr"] for run in found] == ["0.3"]
    one, other = project.runs("pretrain")
    assert {k for k in one.data.params if one.data.params[k] != other.data.params[k]} == {"pretrain.lr"}
    assert one.data.metrics["loss_nats_per_token"] == other.data.metrics["loss_nats_per_token"]


def test_stages_of_one_execution_are_in_one_run(project):
    code = """
import subprocess, sys
from pipeline import tracking
with tracking.execution(["pretrain"]) as record:
    with tracking.execution() as nested:  # the flow inside `make repro`
        subprocess.run([sys.executable, "-c", sys.argv[1], "5", "0", "0", "0.1"], check=True)
        subprocess.run([sys.executable, "-c", sys.argv[1], "5", "0", "0", "0.2"], check=True)
    record.fail("exit code 65")
"""
    assert project.train(TRAINER, code=code) == 0, project.said
    assert project.drain().returncode == 0
    (parent,) = project.runs("repro pretrain")
    children = project.runs("pretrain")
    assert [run.data.tags["mlflow.parentRunId"] for run in children] == [parent.info.run_id] * 2
    assert (parent.info.status, parent.data.tags["reason"]) == ("FAILED", "exit code 65")
    assert spool.spools(project.spools) == []


@pytest.mark.slow
def test_under_plain_dvc_the_stages_of_one_repro_find_each_other(toy, monkeypatch):
    (toy.root / "stage.py").write_text(
        "from pipeline import tracking\n"
        "import sys\n"
        "with tracking.run(sys.argv[1], 'f' * 64, {}, {}, {}) as tracker:\n"
        "    open(sys.argv[2], 'w').close()\n"
    )
    toy.environment["GPTCORE_TRACKING"] = "on"
    for _ in range(2):
        done = toy.dvc("repro", "--force", "left")
        assert done.returncode == 0, done.stderr
    assert toy.run([sys.executable, "-m", "pipeline.tracking", "--drain"]).returncode == 0
    project = Project(toy.root, toy.environment)
    parents = {run.info.run_id: run for run in project.runs("repro")}
    groups = [run.data.tags["mlflow.parentRunId"] for run in [*project.runs("seed"), *project.runs("left")]]
    assert len(parents) == 2
    assert sorted(groups) == sorted([*parents, *parents])
    assert {run.info.status for run in parents.values()} == {"FINISHED"}
    assert "mlflow.source.git.commit" in project.runs("seed")[0].data.tags


# --- trouble ---


def test_a_dead_server_costs_the_run_nothing_and_is_made_up_for(project, wait_for):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    project.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    assert project.train(200, 0.005, 0) == 0
    assert float(project.said[0].split()[-1]) < 0.25  # seconds for the slowest step's calls
    done = project.drain(20)
    assert done.returncode == 1
    assert "1 run(s) not delivered" in done.stderr.splitlines()[-1]
    assert len(spool.spools(project.spools)) == 1
    wait_for(lambda: not project.feeders(), 60)
    del project.environment["MLFLOW_TRACKING_URI"]
    assert project.drain().returncode == 0
    (run,) = project.runs()
    assert project.steps(run, "loss_nats_per_token") == list(range(1, 202))


@pytest.mark.slow
def test_a_server_that_hangs_costs_the_run_nothing(project):
    with socket.socket() as silent:  # accepts connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        project.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        assert project.train(100, 0.005, 0) == 0
        assert time.monotonic() - began < 15
        began = time.monotonic()
        assert project.drain(10).returncode == 1
        assert time.monotonic() - began < 60
    assert len(spool.spools(project.spools)) == 1


@pytest.mark.slow
def test_four_first_uses_of_a_fresh_store_at_once(project):
    code = "from pipeline.tracking import MLflowStore; MLflowStore(); print('open')"
    processes = [project.start(code=code) for _ in range(4)]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["open"] * 4
    trainers = [project.start(50, 0.005, 0, lr) for lr in (0.1, 0.2, 0.3, 0.4)]
    assert [process.wait(60) for process in trainers] == [0] * 4
    assert project.drain().returncode == 0
    runs = project.runs("pretrain")
    assert len(runs) == 4
    assert all(project.steps(run, "lr") for run in runs)


@pytest.mark.slow
def test_a_real_server_gets_the_same_as_a_file(project, wait_for):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = project.root / "server"
    place.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--artifacts-destination", str(place / "files")]
    settings = project.environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    from pipeline import processes, ui

    with processes.group(command, cwd=place, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait_for(lambda: ui.answers(f"http://127.0.0.1:{port}/health"), 120)
        project.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
        assert project.train(1500, 0, 1205) == -signal.SIGKILL  # more points than fit in one batch
        assert project.drain().returncode == 0
        (path,) = spool.spools(project.spools)
        spool.Delivery().save(path)  # sent again from the start
        assert project.train(1500, 0, 0) == 0
        assert project.drain().returncode == 0
        (run,) = project.runs()
        assert project.steps(run, "loss_nats_per_token") == list(range(1, 1502))
        files = project.store.list_artifacts(run.info.run_id, "plots")
        assert [file.path for file in files] == ["plots/curve.csv"]
    assert not (project.root / "mlflow.db").exists()
    shutil.rmtree(place)

"""A run's record reaches MLflow whole and once, whatever is killed, deleted or down meanwhile."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import locks
from pipeline.orchestration import pages, processes
from pipeline.tracking import spool
from tests.pipeline.tracking.toy_trainer import Project


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
    with locks.held(project.root / "data" / ".scratch" / "mlflow.lock"):  # the database is being made
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
    """A delivery that died between sending and noting how far it got, in the worst case at every single line."""
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
    code = "from pipeline.tracking.stores.mlflow import MLflowStore; MLflowStore(); print('open')"
    openers = [project.start(code=code) for _ in range(4)]
    assert [process.communicate(timeout=120)[0].strip() for process in openers] == ["open"] * 4
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
    with processes.group(command, cwd=place, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait_for(lambda: pages.answers(f"http://127.0.0.1:{port}/health"), 120)
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

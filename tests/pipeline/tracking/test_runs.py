"""What a stage sees of its record: it costs nothing, spoils nothing, and says what ran and how it ended."""

import sys
import time

import pytest

from pipeline.tracking import runs, spool
from tests.pipeline.tracking.toy_trainer import TRAINER, Project


def test_a_stage_never_imports_mlflow(project):
    code = TRAINER + "\nassert not {'mlflow', 'prefect', 'pandas'} & set(sys.modules)"
    assert project.train(3, 0, 0, code=code) == 0, project.said


def test_switched_off_nothing_is_written(project):
    project.environment["GPTCORE_TRACKING"] = "off"
    assert project.train(3, 0, 0) == 0
    assert not project.spools.exists()
    assert not project.feeders()


def test_a_store_that_there_is_not_is_said_and_the_record_waits(project):
    project.environment["GPTCORE_TRACKING"] = "mlfow"
    assert project.train(3, 0, 0) == 0
    done = project.drain()
    assert done.returncode == 1
    assert "GPTCORE_TRACKING=mlfow: no tracker of this name; expected off or one of mlflow" in done.stderr
    assert len(spool.spools(project.spools)) == 1


def test_a_disk_that_refuses_ends_the_record_and_not_the_run(project):
    project.spools.parent.mkdir(parents=True)
    project.spools.write_text("a file where the folder should be")
    assert project.train(20, 0, 0) == 0
    assert project.said[1].count("this run's record ends here") == 1


def test_an_artifact_that_is_missing_or_huge_is_left_out_and_said(project, monkeypatch, capsys):
    monkeypatch.setattr(runs, "_start_feeder", lambda: None)
    monkeypatch.setattr(spool, "LARGEST_ARTIFACT_BYTES", 10)
    (project.root / "huge").write_text("x" * 11)
    with runs.run("pretrain", "f" * 64, {}, {}, {}) as tracker:
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
    monkeypatch.setattr(runs, "_start_feeder", lambda: None)
    with runs.run("pretrain", "f" * 64, {}, {}, {}) as tracker:
        began = time.perf_counter()
        for step in range(2000):
            tracker.log({"loss_nats_per_token": 1.0, "lr": 0.1, "tokens_per_second": 1e4}, step)
        assert (time.perf_counter() - began) / 2000 < 1e-3  # 20 µs on a quiet machine


def test_the_first_and_last_line_say_what_ran_and_how_it_ended(project, monkeypatch):
    monkeypatch.setattr(runs, "_start_feeder", lambda: None)
    monkeypatch.setenv("DVC_EXP_NAME", "brave-otter")
    with runs.run("pretrain", "f" * 64, {"model": {"n_layer": 3}}, {"windows": "a"}, {"extra": "1"}) as tracker:
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
    monkeypatch.setattr(runs, "_start_feeder", lambda: None)
    with pytest.raises(type(error)):
        with runs.run("pretrain", "f" * 64, {}, {}, {}):
            raise error
    events, _ = spool.read(spool.spools(project.spools)[0], 0)
    assert events[-1][1]["status"] == status


def test_another_fingerprint_or_a_finished_run_is_another_spool(project, monkeypatch):
    monkeypatch.setattr(runs, "_start_feeder", lambda: None)
    for fingerprint in ("a" * 64, "b" * 64, "a" * 64):
        with runs.run("pretrain", fingerprint, {}, {}, {}):
            pass
    assert len(spool.spools(project.spools)) == 3


# --- stages of one execution ---


def test_stages_of_one_execution_are_in_one_run(project):
    code = """
import subprocess, sys
from pipeline.tracking import runs
with runs.execution(["pretrain"]) as record:
    with runs.execution() as nested:  # the flow inside `make repro`
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
        "from pipeline.tracking import runs\n"
        "import sys\n"
        "with runs.run(sys.argv[1], 'f' * 64, {}, {}, {}) as tracker:\n"
        "    open(sys.argv[2], 'w').close()\n"
    )
    toy.environment["GPTCORE_TRACKING"] = "mlflow"
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

"""The flow does what the graph and the policies say, and Prefect's troubles stay Prefect's."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gptcore.errors import ParameterError
from pipeline.orchestration import processes
from pipeline.orchestration.dvc_graph import StageNode
from pipeline.orchestration.dvc_process import Driver

RUN = """
import json, sys
from pipeline.orchestration.prefect_flow import run_flow
sys.exit(run_flow(*json.loads(sys.argv[1])))
"""
REPRO = "import sys; from pipeline.orchestration import runner; sys.exit(runner.run(runner.flow))"


def command(code: str, *arguments: Any) -> list[str]:
    return [sys.executable, "-c", code, json.dumps(arguments)]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module, imported so that Prefect's home is a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        from pipeline.orchestration import prefect_flow

    return prefect_flow


class Server:
    """A real Prefect server on loopback, and questions to it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def last_flow_run(self) -> dict[str, Any]:
        return self.ask("/flow_runs/filter", sort="START_TIME_DESC", limit=1)[0]

    def task_states(self, flow_run: dict[str, Any]) -> dict[str, str]:
        runs = self.ask("/task_runs/filter", flow_runs={"id": {"any_": [flow_run["id"]]}})
        return {run["name"]: run["state_name"] for run in runs}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, wait_for: Any) -> Any:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("server")
    start = [
        str(Path(sys.executable).with_name("prefect")),
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with pytest.MonkeyPatch.context() as patch, open(home / "log", "wb") as log:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with processes.group(start, cwd=home, stdout=log, stderr=subprocess.STDOUT):
            found = Server(f"http://127.0.0.1:{port}/api")
            wait_for(lambda: answers(f"{found.url}/health"), 120)
            yield found


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


# --- plain functions ---


def node(**options: Any) -> StageNode:
    return StageNode("left", "makes left", (), options, settled=True)


def test_a_policy_is_read_whole_or_refused(flow):
    policy = flow.Policy.of(node(retries=2, retry_delay_seconds=1.5, timeout_seconds=60, tags=["train"]))
    assert (policy.retries, policy.retry_delay_seconds, policy.timeout_seconds) == (2, 1.5, 60)
    assert policy.tags == ("train",)
    with pytest.raises(ParameterError, match=r"stage left: meta\.prefect: timeout_seconds: .*greater than 0; retrys: "):
        flow.Policy.of(node(retrys=2, timeout_seconds=0))


def test_a_task_is_named_described_and_tagged_as_its_stage(flow):
    task = flow.stage_task(node(retries=2, tags=["train"]), Driver(), force=False)
    assert (task.name, task.description, task.retries, task.tags) == ("left", "makes left", 2, {"train"})
    assert task.persist_result is False


def test_a_settled_stage_starts_no_process(flow, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)  # no DVC project: starting one would fail
    state = flow.stage_task(node(), Driver(), force=False).fn()
    assert (state.name, state.is_completed()) == ("Unchanged", True)


def test_the_ending_names_what_failed_and_what_was_held_up(flow):
    from prefect.states import Completed, Failed, Pending

    states = {"a": Completed(name="Executed"), "b": Failed(message="b: full disk", data=74), "c": Pending()}
    ending = flow.ending(states)
    assert ending.is_failed()
    assert ending.message == "b: full disk\nnot run, for they need what failed: c"
    assert flow._result(ending) == 74
    assert flow.ending({"a": Completed(name="Cached")}).message == "a: Cached"


# --- with a server ---


@pytest.mark.slow
def test_each_stage_is_a_task_and_unchanged_ones_show_as_such(toy, server):
    toy.environment["PREFECT_API_URL"] = server.url
    done = toy.run(command(RUN, []))
    assert done.returncode == 0, done.stdout + done.stderr
    run = server.last_flow_run()
    assert run["state_type"] == "COMPLETED"
    assert server.task_states(run) == dict.fromkeys(["seed", "left", "right", "both", "train_a", "train_b"], "Executed")
    toy.forget()
    toy.knobs("left", value=1)
    assert toy.run(command(RUN, ["both"])).returncode == 0
    run = server.last_flow_run()
    assert run["name"] == "repro both"
    assert server.task_states(run) == {
        "seed": "Unchanged",
        "left": "Executed",
        "right": "Unchanged",
        "both": "Executed",
    }
    assert toy.ran() == ["left", "both"]
    toy.knobs("left", value=0)
    assert toy.run(command(RUN, ["left"])).returncode == 0
    assert server.task_states(server.last_flow_run()) == {"seed": "Unchanged", "left": "Cached"}
    toy.forget()
    assert toy.run(command(RUN, ["left"], True)).returncode == 0
    assert toy.ran() == ["seed", "left"]
    tables = server.ask("/artifacts/filter", artifacts={"key": {"any_": ["stages"]}})
    assert len(tables) == 4


@pytest.mark.slow
def test_a_failure_stops_only_what_depends_on_it(toy, server):
    toy.environment["PREFECT_API_URL"] = server.url
    toy.knobs("right", exit=65)
    done = toy.run(command(RUN, []))
    assert done.returncode == 65
    assert "right: this is what went wrong" in done.stderr
    assert "not run, for they need what failed: both" in done.stderr
    run = server.last_flow_run()
    assert run["state_type"] == "FAILED"
    states = server.task_states(run)
    assert {states[name] for name in ("seed", "left", "train_a", "train_b")} == {"Executed"}
    assert states["right"] == "Failed"
    assert states["both"] == "NotReady"
    assert "both" not in toy.ran()


@pytest.mark.slow
def test_branches_run_at_once_and_trainings_one_by_one(toy, server):
    toy.environment["PREFECT_API_URL"] = server.url
    for name in ("left", "right", "train_a", "train_b"):
        toy.knobs(name, seconds=2)
    assert toy.run(command(RUN, [])).returncode == 0
    times = toy.times()
    pairs = [("left", "right"), ("left", "train_a"), ("left", "train_b"), ("right", "train_a"), ("right", "train_b")]
    assert any(overlap(times[one], times[other]) for one, other in pairs)
    assert not overlap(times["train_a"], times["train_b"])


@pytest.mark.slow
def test_a_stage_is_retried_where_that_can_help(toy, server):
    toy.environment["PREFECT_API_URL"] = server.url
    toy.policy("left", retries=1)
    toy.policy("right", retries=1)
    toy.knobs("left", exit=69)  # source unavailable: it may come back
    toy.knobs("right", exit=64)  # bad parameters: they will not mend themselves
    assert toy.run(command(RUN, ["both"])).returncode in (64, 69)
    assert sorted(toy.ran()) == ["left", "left", "right", "seed"]


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_flow_leaves_no_process_and_no_lock(toy, server, wait_for, sign):
    toy.environment["PREFECT_API_URL"] = server.url
    toy.knobs("left", seconds=120)
    running = toy.start(command(REPRO))
    wait_for(lambda: "left" in toy.ran(), 60)
    running.send_signal(sign)
    assert running.wait(40) == 130
    assert {process.pid for process in toy.processes()} <= {os.getpid()}
    assert server.last_flow_run()["state_type"] in ("CRASHED", "CANCELLED")
    toy.knobs("left")
    assert toy.dvc("repro").returncode == 0


@pytest.mark.slow
def test_after_a_killed_flow_the_same_command_goes_on(toy, server, wait_for):
    """SIGKILL leaves the stage running as an orphan; it is waited for, and nothing is made twice."""
    toy.environment["PREFECT_API_URL"] = server.url
    toy.knobs("left", seconds=10)
    killed = toy.start(command(REPRO))
    wait_for(lambda: "left" in toy.ran(), 60)
    killed.kill()
    killed.wait()
    done = toy.run(command(REPRO))
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(toy.ran()) == sorted(["seed", "left", "right", "both", "train_a", "train_b"])


@pytest.mark.slow
def test_a_bad_policy_or_target_is_one_message(toy, server):
    toy.environment["PREFECT_API_URL"] = server.url
    done = toy.run(command(RUN, ["pretrane"]))
    assert done.returncode == 64
    assert "pretrane" in done.stderr
    toy.policy("left", retry=1)
    done = toy.run(command(RUN, []))
    assert done.returncode == 64
    assert "stage left: meta.prefect: retry:" in done.stderr
    assert toy.ran() == []


# --- without one, and in spite of one ---


@pytest.mark.slow
def test_without_a_server_the_flow_brings_its_own(toy):
    done = toy.run(command(RUN, ["left"]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on without" not in done.stderr
    assert toy.ran() == ["seed", "left"]
    assert (toy.root / ".prefect" / "prefect.db").exists()
    assert not (toy.root / "home" / ".prefect").exists()  # nothing outside the project


def test_a_configured_server_that_does_not_answer_is_done_without(toy):
    with socket.socket() as silent:  # accepts connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        toy.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        done = toy.run(command(RUN, ["left"]))
    assert done.returncode == 0, done.stderr
    assert "going on without it" in done.stderr
    assert toy.ran() == ["seed", "left"]


@pytest.mark.slow
def test_a_server_that_dies_midway_loses_no_work(toy, wait_for, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    toy.environment["PREFECT_HOME"] = str(tmp_path / "doomed")
    doomed = subprocess.Popen(start, cwd=tmp_path, env=toy.environment, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/api/health"), 120)
        toy.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        toy.knobs("left", seconds=4)
        running = toy.start(command(REPRO))
        wait_for(lambda: "left" in toy.ran(), 60)
    finally:
        doomed.kill()
        doomed.wait()
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    assert sorted(toy.ran()) == sorted(["seed", "left", "right", "both", "train_a", "train_b"])  # each once


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return one["start"] < other["end"] and other["start"] < one["end"]

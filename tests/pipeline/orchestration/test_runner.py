"""A run of the whole graph, from what belongs before it to what is told after it, the plain way."""

import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

from gptcore.artifact import write_json
from pipeline.store.view import Headline, View

RUN = "import sys; from pipeline.orchestration import runner; sys.exit(runner.run(runner.{way}, sys.argv[1:]))"
EVERY_TIME_ANOTHER = "from pathlib import Path\nimport sys, time\nPath(sys.argv[2]).write_text(str(time.time()))\n"


def command(way: str, *targets: str) -> list[str]:
    return [sys.executable, "-c", RUN.format(way=way), *targets]


@pytest.fixture
def without_prefect(toy: Any) -> Any:
    """The toy project in an environment whose Prefect can't be imported."""
    broken = toy.root / "broken"
    broken.mkdir()
    (broken / "prefect.py").write_text("raise TypeError('an incompatible library')")
    toy.environment["PYTHONPATH"] = f"{broken}:{toy.environment['PYTHONPATH']}"
    return toy


# --- what is told at the end ---


def test_it_ends_with_the_verdict_the_report_and_the_summary(toy):
    done = toy.run(command("plain"))
    assert done.returncode == 0, done.stderr
    assert sorted(toy.ran()) == sorted(["seed", "left", "right", "both", "train_a", "train_b"])
    assert "not affected" not in done.stderr  # every view worked, although no stage has shown anything
    told = ["Nothing to compare with yet", "data/report/index.html", "make ui"]
    assert [done.stdout.index(words) for words in told] == sorted(done.stdout.index(words) for words in told)
    page = (toy.root / "data" / "report" / "index.html").read_text(encoding="utf-8")
    assert all(f"makes {name}" in page for name in ("seed", "left", "right", "both", "train_a", "train_b"))
    commit(toy)
    again = toy.run(command("plain"))
    assert again.returncode == 0, again.stderr
    assert "Same bytes: all 6 stages gave what dvc.lock records" in again.stdout


def test_other_bytes_than_the_commit_records_are_told_and_fail(toy):
    (toy.root / "stage.py").write_text(EVERY_TIME_ANOTHER)
    assert toy.run(command("plain")).returncode == 0
    commit(toy)
    (toy.root / "both.txt").unlink()
    (toy.root / "both.txt").write_text("")
    assert toy.run(["dvc", "commit", "--force", "both"]).returncode == 0
    done = toy.run(command("plain"))
    assert done.returncode == 1
    assert "NOT REPRODUCED" in done.stdout
    assert "differ from dvc.lock: both.txt " in done.stdout
    assert (toy.root / "data" / "report" / "index.html").exists()


def test_of_a_part_of_the_graph_there_is_no_verdict(toy):
    done = toy.run(command("plain", "left"))
    assert done.returncode == 0, done.stderr
    assert toy.ran() == ["seed", "left"]
    assert "compare" not in done.stdout
    assert "data/report/index.html" in done.stdout


def test_numbers_stand_in_the_order_of_the_stages(toy):
    for name in ("both", "left", "seed"):  # by name the other way round
        view = View(name, [Headline(f"the number of {name}", 1.5, "m", "", "")])
        write_json(toy.root / "data" / "views" / f"{name}.json", view.plain())
    done = toy.run(command("plain", "seed"))
    places = [done.stdout.index(f"the number of {name}") for name in ("seed", "left", "both")]
    assert places == sorted(places)


def test_a_view_that_fails_is_said_and_spoils_nothing(toy):
    (toy.root / "data").mkdir(exist_ok=True)
    (toy.root / "data" / "report").write_text("a file where the folder should be")
    done = toy.run(command("plain"))
    assert done.returncode == 0
    assert "the report failed, the results are not affected" in done.stderr
    assert "make ui" in done.stdout


# --- without Prefect ---


def test_a_prefect_that_cannot_be_imported_is_done_without(without_prefect):
    done = without_prefect.run(command("flow"))
    assert done.returncode == 0, done.stderr
    assert "an incompatible library" in done.stderr
    assert len(without_prefect.ran()) == 6


def test_without_prefect_the_whole_graph_is_made_and_stops_whole(without_prefect, wait_for):
    toy = without_prefect
    toy.knobs("left", seconds=60)
    whole = toy.start(command("flow"), start_new_session=True)
    wait_for(lambda: "left" in toy.ran())
    os.killpg(whole.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
    assert whole.wait(30) != 0
    wait_for(lambda: running(toy) == "", 10)
    assert "both" not in toy.times()
    toy.knobs("left")
    toy.knobs("right", exit=69)
    done = toy.run(command("flow"))
    assert done.returncode == toy.run(["dvc", "repro"]).returncode == 255  # DVC's, of every failure
    assert "right: this is what went wrong" in done.stdout + done.stderr
    assert "Stopped." in done.stderr
    assert "both" not in toy.times()
    toy.knobs("right")
    done = toy.run(command("flow"))  # goes on from where it was
    assert done.returncode == 0, done.stderr
    assert set(toy.times()) == {"seed", "left", "right", "both", "train_a", "train_b"}


@pytest.mark.parametrize(("way", "sign"), [("plain", signal.SIGKILL), ("flow", signal.SIGTERM)])
def test_if_only_the_runner_is_killed_the_next_run_waits_for_its_dvc(toy, wait_for, way, sign):
    toy.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{closed_port()}/api"  # the flow goes on plainly
    toy.knobs("left", seconds=5)
    killed = toy.start(command(way))
    wait_for(lambda: "left" in toy.ran())
    killed.send_signal(sign)
    assert killed.wait(3) == -sign
    done = toy.run(command("plain"))
    assert done.returncode == 0, done.stderr
    assert f"waiting for another `make repro` to end (process {killed.pid})" in done.stderr
    assert sorted(toy.ran()) == sorted(["seed", "left", "right", "both", "train_a", "train_b"])  # each once


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def running(toy: Any) -> str:
    """The command lines of everything that runs in the toy project, beside this test."""
    return "\n".join(" ".join(process.cmdline()) for process in toy.processes() if process.pid != os.getpid())


def commit(toy: Any) -> None:
    for arguments in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "run"]):
        done: subprocess.CompletedProcess[str] = toy.run(["git", *arguments])
        assert done.returncode == 0, done.stderr

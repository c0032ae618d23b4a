"""A run of the whole graph, from what belongs before it to what is told after it, the plain way."""

import os
import re
import signal
import subprocess
import sys
import time
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


# --- one process of the tree is hit alone ---


def test_if_only_the_runner_is_killed_the_next_run_waits_for_its_dvc(toy, wait_for):
    toy.knobs("left", seconds=6)
    killed = toy.start(command("plain"))
    wait_for(lambda: "left" in toy.ran())
    stage = next(process.pid for process in toy.processes() if "stage.py" in process.cmdline())
    killed.kill()
    assert killed.wait(3) == -signal.SIGKILL
    done = toy.run(command("plain"))
    assert done.returncode == 0, done.stderr
    assert "waiting for another `make repro` to end: process " in done.stderr
    assert f"process {killed.pid}" not in done.stderr
    assert f", which is at process {stage} (" in done.stderr
    assert f"to stop it: kill -INT {stage}\n" in done.stderr
    assert sorted(toy.ran()) == sorted(["seed", "left", "right", "both", "train_a", "train_b"])  # each once


def test_the_orphan_ends_as_the_waiting_run_advises(toy, wait_for):
    toy.knobs("left", seconds=60)
    killed = toy.start(command("plain"))
    wait_for(lambda: "left" in toy.ran())
    killed.kill()
    killed.wait()
    waiting = toy.start(command("plain"))
    told = waiting.stdout.readline()
    toy.knobs("left")
    pid = re.search(r"to stop it: kill -INT (\d+)", told)
    assert pid, told
    os.kill(int(pid[1]), signal.SIGINT)
    printed = waiting.stdout.read()
    assert waiting.wait(60) == 0, printed
    assert set(toy.times()) == {"seed", "left", "right", "both", "train_a", "train_b"}


@pytest.mark.parametrize("way", ["plain", "flow"])
@pytest.mark.parametrize("signs", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]])
def test_a_signal_to_the_runner_alone_stops_its_stage(without_prefect, wait_for, way, signs):
    toy = without_prefect
    toy.knobs("left", seconds=60)
    runner = toy.start(command(way))
    wait_for(lambda: "left" in toy.ran())
    for sign in signs:
        runner.send_signal(sign)
        time.sleep(0.2)
    printed, _ = runner.communicate(timeout=30)
    assert runner.returncode == 130, printed
    assert printed.count("stopping: waiting for the stage to save its state") == 1
    assert "Stopped." in printed
    wait_for(lambda: "stage.py" not in running(toy), 10)
    assert "both" not in toy.times()
    toy.knobs("left")
    done = toy.run(command("plain"))
    assert done.returncode == 0, done.stderr


def test_a_stage_that_ends_by_itself_just_then_is_not_followed_by_another(toy, wait_for):
    """The signal comes between two stages, or the stage doesn't mind it: the next one is stopped."""
    (toy.root / "stage.py").write_text(
        "import signal\nimport sys\nif sys.argv[1] == 'left':\n    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        + (toy.root / "stage.py").read_text()
    )
    toy.knobs("left", seconds=2)
    for name in ("right", "both", "train_a", "train_b"):
        toy.knobs(name, seconds=60)
    runner = toy.start(command("plain"))
    wait_for(lambda: "left" in toy.ran())
    runner.send_signal(signal.SIGTERM)
    printed, _ = runner.communicate(timeout=40)
    assert runner.returncode == 130, printed
    assert not any("end" in toy.times().get(name, {}) for name in ("both", "train_a", "train_b"))


def running(toy: Any) -> str:
    """The command lines of everything that runs in the toy project, beside this test."""
    return "\n".join(" ".join(process.cmdline()) for process in toy.processes() if process.pid != os.getpid())


def commit(toy: Any) -> None:
    for arguments in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "run"]):
        done: subprocess.CompletedProcess[str] = toy.run(["git", *arguments])
        assert done.returncode == 0, done.stderr

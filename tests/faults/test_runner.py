"""The runner itself, on campaigns of which it is known what fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults import runner
from tests.faults.journal import ROOT

TOY = """
import os, time
from pathlib import Path
from tests.faults.campaign import Campaign, NotTested

def prepare(shared):
    (shared / "given").write_text("7")

def odd(scene):
    assert (scene.shared / "given").read_text() == "7"
    assert not any(scene.folder.iterdir())
    (scene.folder / "left").touch()
    with open(os.environ["TOY_LOG"], "a") as log:
        log.write(f"odd {scene.number} {scene.rng.random()}\\n")
    if scene.number == 3:
        return "three does not hold"

def slow(scene):
    with open(os.environ["TOY_LOG"], "a") as log:
        log.write(f"slow {scene.number}\\n")
    time.sleep(float(os.environ.get("TOY_SECONDS", 0)))

def raising(scene):
    raise RuntimeError("not thought of")

def impossible(shared):
    raise NotTested("no such machine")

CAMPAIGNS = [
    Campaign("odd", "all but three", 5, 2, odd, prepare),
    Campaign("slow", "takes its time", 4, 1, slow, processes=True),
    Campaign("raising", "has an error of its own", 1, 0, raising),
    Campaign("impossible", "can't be done", 1, 1, slow, impossible),
]
"""
CODE = "import sys; from tests.faults.__main__ import main; sys.exit(main(sys.argv[1:], 'toys'))"


class Runner:
    """``python -m tests.faults`` with the toys for campaigns."""

    def __init__(self, folder: Path) -> None:
        self.out, self.log = folder / "out.jsonl", folder / "log"
        (folder / "toys").mkdir()
        (folder / "toys" / "__init__.py").touch()
        (folder / "toys" / "toy.py").write_text(TOY)
        paths = os.pathsep.join([str(folder), str(ROOT)])
        self.environment = {**os.environ, "PYTHONPATH": paths, "TOY_LOG": str(self.log)}
        self.environment.pop("CI", None)

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CODE, "--out", str(self.out), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=ROOT, env={**self.environment, **more}, text=True, stdout=pipe, stderr=pipe
        )

    def run(self, *arguments: str, code: int = 0, **more: str) -> str:
        process = self.start(*arguments, **more)
        printed = "".join(process.communicate(timeout=60))
        assert process.returncode == code, printed
        return printed

    def logged(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def toys(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_the_names_of_the_campaigns_are_different() -> None:
    names = [campaign.name for campaign in runner.discover()]
    assert len(names) == len(set(names))


def test_a_campaign_that_fails_is_told_with_how_to_repeat_it(toys: Runner) -> None:
    printed = toys.run("--campaign", "odd", code=1)
    assert "odd       5 of 5     4       1" in printed
    assert "odd 3: three does not hold" in printed
    assert "python -m tests.faults --campaign odd --number 3" in printed
    assert (toys.out.with_suffix("") / "odd" / "3" / "left").exists()
    assert sorted(p.name for p in (toys.out.with_suffix("") / "odd").iterdir()) == ["3"]
    printed = toys.run("--campaign", "odd", "--number", "3", code=1)
    assert "three does not hold" in printed
    assert toys.logged()[-1] == toys.logged()[3]  # the same choices
    assert toys.run("--campaign", "odd", "--number", "2").startswith("odd 2: held")


def test_an_error_of_the_trial_is_a_failure(toys: Runner) -> None:
    assert "the trial itself ended with RuntimeError: not thought of" in toys.run("--campaign", "raising", code=1)


def test_the_selection_is_the_beginning_of_the_whole(toys: Runner) -> None:
    toys.run("--selection", "--campaign", "odd")
    first = toys.logged()
    assert len(first) == 2
    toys.run("--campaign", "odd", code=1)
    assert [line.split()[1] for line in toys.logged()] == list("01234")
    toys.run("--campaign", "odd", "--seed", "1", "--selection")
    assert toys.logged()[5:] != first


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_where_it_was_stopped(toys: Runner, sign: signal.Signals) -> None:
    process = toys.start("--campaign", "slow", TOY_SECONDS="1.0")
    until = time.monotonic() + 60
    while len(toys.logged()) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(sign)
    process.communicate(timeout=60)
    assert process.returncode == (130 if sign == signal.SIGINT else -sign)
    with open(toys.out, "a") as file:
        file.write('{"campaign": "slow", "nu')
    assert "slow      4 of 4     4       0" in toys.run("--campaign", "slow")
    assert toys.logged() == ["slow 0", "slow 1", "slow 1", "slow 2", "slow 3"]
    toys.run("--campaign", "slow")
    assert len(toys.logged()) == 5


def test_a_record_of_other_code_is_refused_unless_told_so(toys: Runner) -> None:
    toys.run("--campaign", "slow", "--selection")
    lines = toys.out.read_text().splitlines()
    toys.out.write_text("\n".join([json.dumps(json.loads(lines[0]) | {"commit": "f" * 40}), *lines[1:]]) + "\n")
    printed = toys.run("--campaign", "slow", "--selection", code=64)
    assert "its trials are of commit ffffffffffff" in printed
    assert "--whatever-code" in printed
    toys.run("--campaign", "slow", "--whatever-code")
    assert len(toys.logged()) == 4


def test_what_this_machine_cannot_do_fails_in_ci(toys: Runner) -> None:
    assert "NOT TESTED: impossible: no such machine" in toys.run("--campaign", "impossible")
    toys.run("--campaign", "impossible", code=1, CI="true")


def test_the_summary_keeps_what_did_not_run(toys: Runner, tmp_path: Path) -> None:
    summary = tmp_path / "faults.json"
    toys.run("--campaign", "odd", "--summary", str(summary), code=1)
    toys.run("--campaign", "slow", "--summary", str(summary))
    rows = json.loads(summary.read_text())
    assert set(rows) == {"odd", "slow"}
    assert (rows["odd"]["trials"], rows["odd"]["failed"], rows["odd"]["promise"]) == (5, 1, "all but three")
    assert len(rows["slow"]["commit"].rstrip("+")) == 40


def test_campaigns_are_listed_and_unknown_ones_refused(toys: Runner) -> None:
    assert "all but three" in toys.run("--list")
    assert "expected one of odd, slow" in toys.run("--campaign", "od", code=64)
    assert toys.logged() == []

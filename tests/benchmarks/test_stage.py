"""A process that is stopped for others' turns: its time, its silence, its end.  And whole commands as units."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import stage
from benchmarks.candidates import command
from benchmarks.process import ROOT, Bench, WorkerError
from benchmarks.workloads import WORKLOADS, shrunk
from pipeline.contract import params

TICKING = """
import subprocess, sys, time
tick = "import time\\nwhile True: open('ticks', 'a').write('.'); time.sleep(0.01)"
child = subprocess.Popen([sys.executable, '-c', tick], start_new_session=True)
time.sleep({seconds})
sys.exit({code})
"""


def environment(tmp_path: Path) -> dict[str, str]:
    return Bench(1, tmp_path).environment("gptcore/auto")


def test_while_others_work_the_stage_and_its_children_stand_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "SLICE_SECONDS", 0.4)
    ticks = tmp_path / "ticks"
    sizes: list[tuple[int, int]] = []

    def look() -> float:
        before = ticks.stat().st_size if ticks.exists() else 0
        time.sleep(0.3)
        sizes.append((before, ticks.stat().st_size if ticks.exists() else 0))
        return 1.0

    script = TICKING.format(seconds=1.5, code=0)
    started = time.perf_counter()
    seconds, rates = stage._run_in_slices([sys.executable, "-c", script], environment(tmp_path), tmp_path, look)
    whole = time.perf_counter() - started
    inside = sizes[1:-1]  # the first and last looks are before and after the stage
    assert inside
    assert all(before == after for before, after in inside)
    assert inside[-1][1] > 0
    assert len(rates) == len(sizes)
    assert seconds <= whole - 0.3 * len(sizes)
    assert not any(p.cwd() == str(tmp_path) for p in psutil.process_iter() if p.username() and _readable(p))


def _readable(process: psutil.Process) -> bool:
    try:
        process.cwd()
    except psutil.Error:
        return False
    return True


def test_a_stage_that_fails_is_told(tmp_path: Path) -> None:
    script = TICKING.format(seconds=0, code=3)
    with pytest.raises(WorkerError, match="pretrain stage failed"):
        stage._run_in_slices([sys.executable, "-c", script], environment(tmp_path), tmp_path, lambda: 1.0)


def test_the_stage_is_called_with_flags_it_knows(tmp_path: Path) -> None:
    words = stage._command(tmp_path)
    done = subprocess.run(
        [*words[:4], "--help"], cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert all(flag in done.stdout for flag in words if flag.startswith("--"))


def test_the_bare_step_is_the_stage_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.candidates.ours import config_of
    from gptcore.tokenizer.readers.byte_pairs import BytePairs

    (tmp_path / "data" / "tokenizer").mkdir(parents=True)
    tokenizer = BytePairs.train(["a text to learn from, " * 20], 270)
    tokenizer.save(tmp_path / "data" / "tokenizer")
    monkeypatch.setattr(stage, "ROOT", tmp_path)
    work = stage._bare_step(params.read(ROOT / "params.yaml"))
    sections = params.load_stage("pretrain", ROOT / "params.yaml")
    assert config_of(work) == sections["model"].for_data(tokenizer.n_vocab, work.context_length)
    assert (work.batch, work.optimizer) == (sections["cfg"].batch_windows, sections["cfg"].optimizer)


def test_missing_data_is_an_instruction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "ROOT", tmp_path)
    with pytest.raises(WorkerError, match=r"data/windows: missing; run `make repro` first"):
        stage.measure(Bench(1, tmp_path), stage.Pace(), quick=True)


def test_the_tracking_database_is_made_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in stage.OTHER_TRACKING:
        monkeypatch.setenv(name, "off")
        monkeypatch.setenv(f"{name}_URI", "http://elsewhere.invalid")
    stage._make_tracking_store(stage._environment(Bench(1, tmp_path), tmp_path), tmp_path)
    assert (tmp_path / "mlflow.db").is_file()


@pytest.mark.parametrize("setting", ["import-torch", "generate"])
def test_a_whole_command_is_a_unit(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "EXPORTED", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert command.build(shrunk(WORKLOADS["first-token"]), setting)() == 1.0

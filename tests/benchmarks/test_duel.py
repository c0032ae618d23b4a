"""Real duels of real workers on tiny shapes: what is measured and kept, never how fast it was."""

import time
from pathlib import Path

import psutil
import pytest

from benchmarks import process
from benchmarks.duel import Pace, Round, Spread, duel, summary
from benchmarks.process import Bench, Sample, Worker, WorkerError
from benchmarks.workloads import WORKLOADS, shrunk

pytestmark = pytest.mark.slow

PACE = Pace(min_rounds=3, max_rounds=3, turn_seconds=0.01, duel_seconds=0.0)
TRAIN, DECODE = shrunk(WORKLOADS["train-30m"]), shrunk(WORKLOADS["decode-16"])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One thread; no peers but those in the lock."""
    return Bench(threads=1, peers=tmp_path)


def test_the_ratio_of_a_round_is_that_of_speeds() -> None:
    slower_but_more_work = Round(Sample(work=300, seconds=2.0), Sample(work=100, seconds=1.0), "ours")
    assert slower_but_more_work.ratio == 1.5


def test_a_summary_takes_the_median_of_paired_ratios_and_keeps_the_extremes() -> None:
    # the machine slows down to a third in the second round and a tenth in the third, for both
    pairs = [(200, 100), (60, 40), (30, 10)]
    rounds = [Round(Sample(a, 1.0), Sample(b, 1.0), "ours") for a, b in pairs]
    facts = summary(rounds, our_peak=300, their_peak=400)
    assert facts["ratio"] == {"median": 2.0, "low": 1.5, "high": 3.0}
    assert facts["ours"] == {"median": 60, "low": 30, "high": 200}
    assert facts["memory_ratio"] == 0.75
    assert Spread.of([4.0, 1.0]) == Spread(2.5, 1.0, 4.0)


def test_a_duel_of_training_steps(bench: Bench) -> None:
    result = duel(bench, TRAIN, "gptcore/auto", "transformers/fp32", PACE)
    assert [r["first"] for r in result["rounds"]] == ["ours", "theirs", "ours"]
    step = TRAIN.batch * TRAIN.tokens
    for r in result["rounds"]:
        for side in ("ours", "theirs"):
            assert r[side]["work"] >= step
            assert r[side]["work"] % step == 0
        ours, theirs = r["ours"], r["theirs"]
        assert r["ratio"] == pytest.approx(ours["work"] / ours["seconds"] / (theirs["work"] / theirs["seconds"]))
    facts = result["summary"]
    assert facts["ratio"]["low"] <= facts["ratio"]["median"] <= facts["ratio"]["high"]
    assert min(facts["our_peak_bytes"], facts["their_peak_bytes"]) > 50e6  # PyTorch alone takes more


@pytest.mark.parametrize("theirs", ["transformers/bf16", "limit/stream-bf16", "limit/laid-out-fp32"])
def test_a_duel_of_texts(bench: Bench, theirs: str) -> None:
    work = DECODE if theirs.startswith("transformers") else shrunk(WORKLOADS["decode-1"])
    result = duel(bench, work, "gptcore/bf16", theirs, PACE)
    tokens = work.batch * work.new_tokens
    assert all(r[side]["work"] % tokens == 0 for r in result["rounds"] for side in ("ours", "theirs"))


def test_the_peak_of_products_is_above_any_training_step(bench: Bench) -> None:
    """A share of the peak that exceeds 1 would show a wrong count of operations."""
    result = duel(bench, TRAIN, "gptcore/auto", "limit/gemm", PACE)
    assert 0 < result["summary"]["ratio"]["high"] < 1


def test_a_peer_that_is_not_installed_is_named(bench: Bench) -> None:
    with pytest.raises(WorkerError, match=r"litgpt/fp32 ended.*No module named 'litgpt'"):
        duel(bench, TRAIN, "gptcore/auto", "litgpt/fp32", PACE)
    assert not psutil.Process().children()


@pytest.mark.parametrize("candidate", ["numpy/fp32", "gptcore/fp8"])
def test_an_unknown_candidate_is_refused(bench: Bench, candidate: str) -> None:
    with Worker(bench, candidate, DECODE) as worker, pytest.raises(WorkerError, match=candidate.split("/")[0]):
        worker.wait_until_ready()


def test_a_worker_that_says_nothing_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SILENCE_SECONDS", 0.05)
    with Worker(bench, "gptcore/auto", TRAIN) as worker, pytest.raises(WorkerError, match="said nothing"):
        worker.wait_until_ready()


def test_a_waiting_worker_takes_no_processor_time(bench: Bench) -> None:
    with Worker(bench, "gptcore/auto", TRAIN) as worker:
        worker.wait_until_ready()
        worker.run()
        time.sleep(0.3)  # OpenMP's threads stay awake for some milliseconds
        (child,) = psutil.Process().children()
        before = sum(child.cpu_times()[:2])
        time.sleep(1.0)
        assert sum(child.cpu_times()[:2]) - before < 0.1

"""From results to a page: what is judged, what is shown, and that nothing missing passes silently."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import render
from benchmarks.__main__ import app
from benchmarks.cases import CASES, TARGETS, Target
from benchmarks.duel import Pace
from benchmarks.process import Bench
from benchmarks.run import failures, run
from benchmarks.workloads import WORKLOADS, shrunk

OURS = "gptcore/auto"


def spread(median: float) -> dict[str, float]:
    return {"median": median, "low": median * 0.9, "high": median * 1.1}


def outcome(theirs: str, ratio: float, memory: float = 0.7, ours: str = OURS) -> dict[str, Any]:
    facts = {"ours": spread(1000.0), "theirs": spread(1000.0 / ratio), "ratio": spread(ratio)}
    facts |= {"our_peak_bytes": 7e8, "their_peak_bytes": 7e8 / memory, "memory_ratio": memory}
    return {"ours": ours, "theirs": theirs, "rounds": [], "summary": facts}


@pytest.fixture
def document() -> dict[str, Any]:
    duels = [
        outcome("transformers/fp32", 5.0),
        outcome("transformers/bf16", 2.5, memory=0.55),
        outcome("transformers/bf16+eager", 2.2, memory=0.72),
        outcome("litgpt/bf16+compile", 1.4),
        outcome("limit/gemm", 0.66),
    ]
    point = {"axis": "context", "label": "256", "x": 256, "parameters": 3e7, "flops_per_token": 2e8, "peak_bytes": 1e9}
    points = [point | {"tokens_per_s": spread(3000.0)}]
    points += [point | {"x": 2048, "label": "2048", "flops_per_token": 3e8, "tokens_per_s": spread(2000.0)}]
    return {
        "date": "2026-01-02",
        "machine": {"processor": "P", "instructions": "avx2", "cores": "2", "memory": "24 GiB", "system": "Linux"},
        "versions": {"python": "3.11", "torch": "2.13.0", "litgpt": "0.5.13"},
        "threads": 2,
        "quick": False,
        "minutes": 29.6,
        "pace": {"min_rounds": 3, "max_rounds": 7, "turn_seconds": 1.2, "duel_seconds": 12.0},
        "parts": {
            "train-30m": {"duels": duels, "failed": ["llms-from-scratch/fp32 ended: why"]},
            "pretrain-stage": {
                "failed": [],
                "stage_seconds": 60.0,
                "stage_tokens": 972800,
                "stage": 16000.0,
                "step": spread(17000.0),
                "looks": 12,
                "ratio": spread(0.94),
            },
            "decode-int8": {"duels": [], "failed": ["gptcore/int8 ended: no"]},
            "quality": {"failed": [], "bytes": 126434, "bits_per_byte": {"fp32": 1.8, "bf16": 1.8004}},
            "first-token": {
                "duels": [outcome("command/import-torch", 0.8, ours="command/generate")],
                "failed": [],
            },
            "scaling": {"failed": [], "points": points},
        },
    }


def of(label: str) -> Target:
    (target,) = [t for t in TARGETS if label in t.label]
    return target


def test_the_best_peer_is_the_one_closest_to_us(document: dict[str, Any]) -> None:
    target = of("training 30M: tokens/s over the best peer at its best")
    assert render.measured(target, document["parts"]) == (1.4, "litgpt/bf16+compile")
    uncompiled = of("training 30M: tokens/s over the best peer without")
    assert render.measured(uncompiled, document["parts"]) == (2.2, "transformers/bf16+eager")


def test_memory_is_judged_by_the_peer_that_takes_least(document: dict[str, Any]) -> None:
    target = next(t for t in TARGETS if t.quantity == "memory" and t.part == "train-30m")
    assert render.measured(target, document["parts"]) == (0.72, "transformers/bf16+eager")


def test_seconds_come_from_our_own_process(document: dict[str, Any]) -> None:
    assert render.measured(of("first token"), document["parts"]) == (0.001, "")


@pytest.mark.parametrize(
    ("quantity", "must", "aim", "value", "expected"),
    [
        ("speed", 1.5, 2.0, 1.5, "met"),
        ("speed", 1.5, 2.0, 2.0, "aim met"),
        ("speed", 1.5, 2.0, 1.49, "**not met**"),
        ("speed", 1.5, None, 9.0, "met"),
        ("speed", None, 0.65, 0.6, "aim not met"),
        ("speed", None, None, 0.6, ""),
        ("speed", 1.5, 2.0, None, ""),
        ("memory", 0.75, 0.6, 0.75, "met"),
        ("memory", 0.75, 0.6, 0.59, "aim met"),
        ("memory", 0.75, 0.6, 0.76, "**not met**"),
        ("seconds", 3.0, 2.0, 3.1, "**not met**"),
    ],
)
def test_verdicts(quantity: str, must: float | None, aim: float | None, value: float | None, expected: str) -> None:
    assert render.verdict(Target(0, "", "", quantity, "", (), must, aim), value) == expected


def test_the_page_shows_targets_duels_and_what_is_missing(document: dict[str, Any]) -> None:
    page = render.page(document, "plot.svg")
    lines = page.splitlines()
    assert "2026-01-02" in page
    assert "| 1 | training 30M: tokens/s over the best peer at its best setting | ≥ 1.8 |  | 1.40 |" in page
    assert any("**not met**" in line for line in lines)
    shipped = next(line for line in lines if line.startswith(f"| {OURS} | transformers/fp32"))
    assert "**5.00** (4.50 – 5.50)" in shipped
    assert "Not measured: llms-from-scratch/fp32 ended: why" in page
    int8 = next(line for line in lines if line.startswith("| 8 |"))
    assert "not measured" in int8
    assert "| bf16 | 1.80040 | +0.00040 |" in page
    assert "![Speed and memory against context, batch and size](plot.svg)" in page


def test_a_quick_or_partial_run_says_so(document: dict[str, Any]) -> None:
    assert render.PARTIAL in render.page(document)
    parts = {name: {**part, "failed": []} for name, part in document["parts"].items()}
    whole = document | {"parts": {name: {"duels": [], "failed": []} for name in CASES} | parts}
    assert render.PARTIAL not in render.page(whole)
    assert render.PARTIAL in render.page(whole | {"against": "gemm"})
    assert render.PARTIAL in render.page(whole | {"parts": whole["parts"] | {"quality": {"failed": ["no data"]}}})
    assert render.PARTIAL in render.page(whole | {"quick": True})


def test_targets_of_parts_that_did_not_run_are_left_out(document: dict[str, Any]) -> None:
    assert "| 2 |" not in render.targets_table(document)


def test_failures_are_told_with_their_part(document: dict[str, Any]) -> None:
    told = ["train-30m: llms-from-scratch/fp32 ended: why", "decode-int8: gptcore/int8 ended: no"]
    assert failures(document) == told


def test_a_page_is_rendered_anew_from_its_results_to_the_same_bytes(document: dict[str, Any], tmp_path: Path) -> None:
    results = tmp_path / "benchmarks.json"
    results.write_text(json.dumps(document), encoding="utf-8")
    written = []
    for _ in range(2):
        outcome = CliRunner().invoke(app, ["render", str(results)])
        assert outcome.exit_code == 0, outcome.output
        written.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"benchmarks.json", "benchmarks.md", "benchmarks-scaling.svg"}
    assert json.loads(written[0]["benchmarks.json"]) == document


def test_a_part_that_does_not_exist_is_refused() -> None:
    outcome = CliRunner().invoke(app, ["--only", "train-31m"])
    assert outcome.exit_code == 2
    assert "train-31m" in outcome.output


@pytest.mark.slow
def test_a_run_goes_from_workers_to_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORKLOADS, "train-30m", shrunk(WORKLOADS["train-30m"]))
    told: list[str] = []
    pace = Pace(min_rounds=2, max_rounds=2, turn_seconds=0.01, duel_seconds=0.0)
    bench = Bench(threads=1, peers=tmp_path)
    (document,) = run(bench, pace, ["train-30m"], quick=True, against="fp32", say=told.append)
    done = [d["theirs"] for d in document["parts"]["train-30m"]["duels"]]
    assert done == ["transformers/fp32"]
    assert len(failures(document)) == 2  # the two that are not in the lock
    assert sum(line.startswith("NOT MEASURED") for line in told) == 2
    page = render.page(json.loads(json.dumps(document)))
    assert f"| {OURS} | transformers/fp32 |" in page

"""How training speed and memory grow with context, batch and model size.  Ours only; one process a point.

Each axis varies one thing.  The context varies at a constant number of tokens a step, so that what changes is
the attention alone; the batch and the model's size vary at a context of 256 tokens.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.duel import Pace, Spread, warm_up
from benchmarks.process import Bench, Worker
from benchmarks.workloads import GPT2, SMALL, Workload

STEP_TOKENS = 2048
CONTEXTS = (256, 512, 1024, 2048)
BATCHES = (1, 2, 4, 8, 16, 32)
SIZES: dict[str, dict[str, Any]] = {
    "64 × 2": {"d_model": 64, "n_layer": 2, "n_head": 2},
    "256 × 4": {"d_model": 256, "n_layer": 4, "n_head": 4},
    "384 × 6": {"d_model": 384, "n_layer": 6, "n_head": 6},
    "768 × 12": {"d_model": 768, "n_layer": 12, "n_head": 12},
    "1024 × 24": {"d_model": 1024, "n_layer": 24, "n_head": 16},
}
"""Width × blocks; the last two are GPT-2's 124M and 355M."""


@dataclass(frozen=True)
class Point:
    """One measurement: where it lies on which axis."""

    axis: str
    label: str
    x: int
    work: Workload


def points() -> Iterator[Point]:
    small = Workload("train", **SMALL, batch=8, tokens=256)
    for context in CONTEXTS:
        batch = STEP_TOKENS // context
        work = replace(small, context_length=context, tokens=context, batch=batch)
        yield Point("context", f"{context} ({batch} a step)", context, work)
    for batch in BATCHES:
        yield Point("batch", str(batch), batch, replace(small, batch=batch))
    for label, shape in SIZES.items():
        work = replace(Workload("train", **GPT2, batch=4, tokens=256), context_length=256, **shape)
        yield Point("size", label, work.parameters, work)


def measure_point(bench: Bench, pace: Pace, point: Point) -> dict[str, Any]:
    """Tokens/s, its spread, and peak memory of one shape."""
    with Worker(bench, "gptcore/auto", point.work) as worker:
        units = warm_up(worker, pace)
        rates = [worker.run(units).rate for _ in range(pace.min_rounds)]
        peak = worker.finish()
    return {
        "axis": point.axis,
        "label": point.label,
        "x": point.x,
        "parameters": point.work.parameters,
        "flops_per_token": point.work.flops_per_token,
        "tokens_per_s": asdict(Spread.of(rates)),
        "peak_bytes": peak,
    }

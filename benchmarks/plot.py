"""The scaling plot: tokens/s and peak memory against context, batch and model size, as SVG."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

AXES = {"context": "context, tokens", "batch": "rows of 256 tokens", "size": "parameters"}


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """One column an axis that has points; equal points give equal bytes."""
    columns = {axis: [p for p in points if p["axis"] == axis] for axis in AXES}
    columns = {axis: chosen for axis, chosen in columns.items() if chosen}
    with matplotlib.rc_context({"svg.hashsalt": "gptcore", "font.size": 9}):
        figure = Figure(figsize=(10, 5), layout="constrained")
        axes = figure.subplots(2, len(columns), sharex="col", squeeze=False)
        for column, (axis, chosen) in enumerate(columns.items()):
            x = [p["x"] for p in chosen]
            speed, memory = axes[0][column], axes[1][column]
            median = [p["tokens_per_s"]["median"] for p in chosen]
            below = [p["tokens_per_s"]["median"] - p["tokens_per_s"]["low"] for p in chosen]
            above = [p["tokens_per_s"]["high"] - p["tokens_per_s"]["median"] for p in chosen]
            speed.errorbar(x, median, yerr=[below, above], marker="o", capsize=3)
            memory.plot(x, [p["peak_bytes"] / 1e9 for p in chosen], marker="o", color="tab:orange")
            memory.set_xlabel(AXES[axis])
            for part in (speed, memory):
                part.set_xscale("log", base=10 if axis == "size" else 2)
                part.grid(alpha=0.3)
            speed.set_yscale("log" if axis == "size" else "linear")
            memory.set_ylim(bottom=0)
            if axis != "size":
                speed.set_ylim(bottom=0)
        axes[0][0].set_ylabel("tokens/s")
        axes[1][0].set_ylabel("peak memory, GB")
        figure.savefig(path, metadata={"Date": None})

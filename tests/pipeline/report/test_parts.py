"""What the page is made of: numbers, curves, the layout of the DAG; and the summary."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report import dag
from pipeline.report.charts import MOST_POINTS, smooth, thin
from pipeline.report.page import render
from pipeline.report.summary import summary
from pipeline.report.wording import duration, number, percent, printed, size


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(1234567), "1,234,567"), (number(1.86812), "1.868"), (number(None), "–"), (number(True), "yes"),
        (number([1, 2.5]), "1, 2.5"), (number("< 1e-5"), "< 1e-5"), (number(0), "0"), (number(0.0), "0"),
        (number(5.0003), "5.000"), (number(9999.7), "10,000"), (number(999.97), "1000"), (number(math.nan), "nan"),
        (percent(0.943), "94.3\u202f%"), (percent(None), "–"), (size(17_099_760), "17.1 MB"), (size(12), "12 B"),
        (duration(4.5), "4.5 s"), (duration(75), "1 min 15 s"), (duration(7300), "2 h 1 min"), (duration(None), "–"),
        (printed(0.5, "percent"), "50.0\u202f%"), (printed(1000, "text"), "1000"), (printed(1000, "bytes"), "1.0 kB"),
        (printed("x" * 3000, "text"), "x" * 2000 + " …"),
    ],
)  # fmt: skip
def test_numbers_read_well(shown: str, expected: str) -> None:
    assert shown == expected


def test_smoothing_follows_a_line_and_flattens_noise() -> None:
    x = np.arange(300.0)
    line = 3.5 - 0.01 * x
    noisy = smooth(pd.DataFrame({"x": x, "y": line + (-1) ** np.arange(300)}))
    assert np.abs(noisy["y"] - line)[5:-5].max() < 0.15


@pytest.mark.parametrize("n", [1, 399, 400, 401, 100_000])
def test_thinning_keeps_ends_and_few_points(n: int) -> None:
    points = thin(pd.DataFrame({"x": np.arange(float(n)), "y": np.ones(n)}))
    assert len(points) == n if n <= MOST_POINTS else len(points) <= MOST_POINTS
    assert points["x"].iloc[0] <= n / MOST_POINTS
    assert points["x"].iloc[-1] >= n - 1 - n / MOST_POINTS


def test_a_chart_holds_the_values_that_were_measured(run: Path, page_of: Callable[[Path], Any]) -> None:
    (run / "data/plots/train.csv").write_text("step,cost,val\n1,2.0,\n3,inf,1.5\n5,x,1.25\n")
    text = page_of(run).scripts[0]
    sources = [
        dict(model["attributes"]["data"]["entries"])
        for model in _models(json.loads(text))
        if "data" in model["attributes"]
    ]
    held_out = {"x": [3.0, 5.0], "y": [1.5, 1.25]}
    assert {"x": [1.0], "y": [2.0]} in sources
    assert held_out in sources


def _models(plain: Any) -> list[dict[str, Any]]:
    """Every object of Bokeh's JSON that has attributes."""
    children = plain.values() if isinstance(plain, dict) else plain if isinstance(plain, list) else []
    own = [plain] if isinstance(plain, dict) and isinstance(plain.get("attributes"), dict) else []
    return own + [model for child in children for model in _models(child)]


class Node:
    def __init__(self, name: str, *upstream: str) -> None:
        self.name, self.description, self.upstream = name, "", upstream


def test_arrows_that_follow_from_others_are_left_out() -> None:
    nodes = [Node("a"), Node("b", "a"), Node("c", "a", "b"), Node("d", "a", "c"), Node("e", "a", "gone")]
    assert sorted(dag.graph(nodes).edges) == [("a", "b"), ("a", "e"), ("b", "c"), ("c", "d")]


def test_a_cycle_is_drawn_as_it_is() -> None:
    nodes = [Node("a", "b"), Node("b", "a"), Node("c", "c")]
    assert dag.order(nodes) == ["a", "b", "c"]
    assert set(dag.layout(nodes, downwards=True).centres) == {"a", "b", "c"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30), st.booleans())
def test_boxes_never_overlap_and_arrows_go_forwards(pairs: list[tuple[int, int]], downwards: bool) -> None:
    nodes = [Node(str(i), *{str(a) for a, b in pairs if b == i and a < b}) for i in range(12)]
    laid = dag.layout(nodes, downwards)
    centres = list(laid.centres.items())
    for i, (_, (x, y)) in enumerate(centres):
        assert dag.BOX_WIDTH / 2 <= x <= laid.width - dag.BOX_WIDTH / 2 + 0.01
        assert dag.BOX_HEIGHT / 2 <= y <= laid.height - dag.BOX_HEIGHT / 2 + 0.01
        for _, (u, v) in centres[:i]:
            assert abs(x - u) >= dag.BOX_WIDTH or abs(y - v) >= dag.BOX_HEIGHT
    along = {name: place[downwards] for name, place in centres}
    whole = nx.DiGraph([(above, node.name) for node in nodes for above in node.upstream])
    assert all(along[a] < along[b] for a, b in whole.edges)
    assert len(laid.arrows) == len(nx.transitive_reduction(whole).edges)


def test_the_summary_says_what_came_out_and_where_it_is(run: Path, page_of: Callable[[Path], Any]) -> None:
    page_of(run)
    lines = summary(run, ["fetch", "train", "judge"]).splitlines()
    assert lines[0] == "model             1.868 bits/byte (5-gram 1.884, xz 2.308)"
    assert lines[1] == "labels            94.6 % right (a baseline 97.6 %)"
    assert "report            data/report/index.html" in lines
    assert "export            data/export/{large,small}" in lines
    assert 'use it            python -m gptcore generate data/export/small "Once"' in lines
    assert lines[-2] == "One text of the model, greedy:"
    assert lines[-1].startswith("  Once upon a time there[31m was </script>")  # what a terminal would obey is gone


def test_what_is_switched_off_is_neither_told_nor_shown(run: Path) -> None:
    """Its view is still there, of a time when it was on."""
    stages, off = ["fetch", "train", "judge"], ["data/views/judge.json"]
    assert "a baseline" in summary(run, stages)
    assert "a baseline" not in summary(run, stages, off)
    pages = [render(run, run / f"page {len(left_out)}", left_out=left_out).read_text() for left_out in ([], off)]
    assert ["a baseline" in page for page in pages] == [True, False]


def test_the_summary_of_nothing_says_where_to_look(tmp_path: Path) -> None:
    assert summary(tmp_path) == "pages             make ui                    (MLflow and Prefect)"

"""A made-up project with a view of every kind of block, hostile text in all of them, and a reader of pages."""

import csv
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.page import render
from pipeline.store.view import Bars, Curves, Headline, Matrix, Note, Numbers, Table, Texts, View

HOSTILE = "</script><script>alert('x')</script><img src=https://example.org/x.png>{{ 7 * 7 }}"
LONG = "W" * 300
LABELS = ["acq", "crude", "earn", "money-fx"]
COUNTS = [[90, 3, 0, 1], [2, 40, 1, 0], [0, 0, 300, 2], [5, 1, 0, 9]]


@dataclass(frozen=True)
class Node:
    name: str
    description: str
    upstream: tuple[str, ...]


STAGES = (
    Node("fetch", "gets the text", ()),
    Node("train", "trains", ("fetch",)),
    Node("judge", "compares", ("train", "fetch", "gone")),
    Node("ship@small", "writes it out", ("judge", "train")),
    Node("ship@large", HOSTILE, ("train",)),
)


def views() -> dict[str, View]:
    ship = ("directory", "code"), ("size", "bytes")
    curves = Curves(
        "cost", "data/plots/train.csv", {"cost": "training", "val": f"held out {HOSTILE}"}, "nats", ["cost"]
    )
    sources = Table("Sources", [("source", "text"), ("size", "bytes")], [["tales", 416_342], [HOSTILE, None]])
    texts = Texts(
        "Samples", [(["t 0.8"], "Once upon a time", " there was"), ([HOSTILE], "Reverse.", f"enots{HOSTILE}")]
    )
    score = Headline("labels", 0.9456, "right", "a baseline 97.6 %", "Share of the test documents.", "percent")
    return {
        "fetch": View("Data", blocks=[sources, Note(f"Kept by hash. {HOSTILE}")]),
        "train": View(
            "Training",
            [Headline("model", 1.86812, "bits/byte", "5-gram 1.884, xz 2.308", HOSTILE)],
            [Numbers([("steps", 1100, "in all"), ("held out", 0.25, "")], "At the end", {"held out": "percent"}),
             curves],
            quote=f"Once upon a time\n  there\x1b[31m was {HOSTILE}",
        ),
        "judge": View(
            "Evaluation",
            [score],
            [Bars("Cost", "bits/byte", [("xz", 2.308, False), ("ours", 1.868, True), ("lost", math.nan, False)]),
             Matrix("By label", LABELS, COUNTS), texts,
             Table("More", [("task", "text"), ("score", "percent")], [["add", 0.075]], folded=True)],
        ),
        "ship-small": View("Exports", blocks=[Table("", ship, [["data/export/small", 14_100_000]]),
                                              Note('Try `python -m gptcore generate data/export/small "Once"`.')]),
        "ship-large": View("Exports", blocks=[Table("", ship, [["data/export/large", 99]])]),
        "afterthought": View(
            "Of a stage that the graph does not know",
            [Headline(LONG, LONG, LONG, LONG, LONG, "text")],
            [Note(LONG), Numbers([(LONG, LONG, LONG)], LONG), Bars(LONG, LONG, [(LONG, 1, True)], LONG),
             Table(LONG, [(LONG, "code")] * 4, [[LONG] * 4] * 300), Matrix(LONG, [LONG], [[1]]),
             Table(LONG, [(LONG, "text")] * 4, [[LONG] * 4]), Texts(LONG, [([LONG], LONG, LONG)] * 99)],
        ),
    }  # fmt: skip


def write_run(root: Path) -> Path:
    """A project folder as a whole run leaves it."""
    for name, view in views().items():
        write(root / f"data/views/{name}.json", view.plain())
        record = {"stage": name, "started": "2026-01-02T03:04:05+0000", "seconds": 75.3, "threads": 2, "inputs": {}}
        write(root / f"data/.provenance/{name}.json", record)
    chance = random.Random(1)
    steps = [
        (i, 3 + 4 * math.exp(-i / 90) + chance.gauss(0, 0.1), "" if i % 100 else 3.5 + 30 / i) for i in range(1, 1101)
    ]
    write_csv(root / "data/plots/train.csv", [("step", "cost", "val"), *steps])
    (root / "params.yaml").write_text(f"seed: 1  # {HOSTILE}\n")
    for name in ("small", "large"):
        (root / "data/export" / name).mkdir(parents=True)
    return root


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


class Page(HTMLParser):
    """A page as its elements, the text of each section, its scripts, and whether the tags are balanced."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.section = ""
        self.texts: dict[str, str] = {}
        self.scripts: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(f"{tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
        elif "h2" in self.open:
            self.section = data
        elif "section" in self.open and self.section:
            self.texts[self.section] = self.texts.get(self.section, "") + data

    def text(self, section: str) -> str:
        return " ".join(self.texts[section].split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path)


@pytest.fixture
def page_of() -> Callable[[Path], Page]:
    """Renders the page about a project and reads it."""
    return lambda root: Page(render(root, root / "data" / "report", STAGES))


@pytest.fixture
def hostile() -> str:
    return HOSTILE

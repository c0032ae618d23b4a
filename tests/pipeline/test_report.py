"""The report page: from a whole run, from nothing, from damaged files; and in a browser."""

import csv
import json
import math
import os
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline import dag_chart
from pipeline.charts import Series, line_chart, smoothed, thinned, ticks
from pipeline.numerals import duration, number, percent, size
from pipeline.report import TEMPLATE, render
from pipeline.report_sections import SECTIONS

CHROMIUM = "/usr/bin/chromium"
LABELS = ["acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"]
KINDS = ["antonym", "capitalize", "count-letters", "first-word", "plural", "reverse", "sort-numbers", "spell-out"]
HOSTILE = "<script>alert('x')</script><img src=https://example.org/x.png>"
DVC = """
stages:
  download: {cmd: a, desc: fetch the sources, outs: [data/raw]}
  tokenizer: {cmd: b, deps: [data/raw], outs: [data/tokenizer]}
  tokenize: {cmd: c, deps: [data/raw, data/tokenizer], outs: [data/tokens]}
  windows: {cmd: d, deps: [data/tokens], outs: [data/windows]}
  pretrain: {cmd: e, deps: [data/windows, data/tokenizer], outs: [data/checkpoints/pretrain]}
  load_gpt2: {cmd: f, deps: ["${load_gpt2.source}"], outs: [data/checkpoints/load_gpt2]}
  evaluate: {cmd: g, deps: [data/checkpoints/pretrain, data/checkpoints/load_gpt2, data/raw], outs: [data/evaluation]}
  finetune_classify: {cmd: h, deps: [data/checkpoints/load_gpt2, data/raw], outs: [data/checkpoints/finetune_classify]}
  finetune_instruct: {cmd: i, deps: [data/checkpoints/load_gpt2], outs: [data/checkpoints/finetune_instruct]}
  export:
    foreach: [pretrain, finetune_classify, finetune_instruct]
    do: {cmd: "j ${item}", deps: ["data/checkpoints/${item}"], outs: ["data/export/${item}"]}
"""
PARAMS = """
download:
  sources:
    grimm: {role: corpus, licence: public domain}
    r8_train: {role: classification, split: train, licence: research use only}
load_gpt2: {source: data/checkpoints/pretrain}
"""


def write_run(root: Path, source: str = "data/checkpoints/pretrain") -> None:
    """A project folder as a whole run leaves it, small and made up."""
    chance = random.Random(1)
    (root / "dvc.yaml").write_text(DVC)
    (root / "params.yaml").write_text(PARAMS.replace("data/checkpoints/pretrain", source))
    for name, metrics in _metrics().items():
        _write(root / f"data/metrics/{name}.json", metrics)
        record = {
            "stage": name,
            "started": "2026-01-02T03:04:05+0000",
            "seconds": 4.5,
            "threads": 2,
            "metrics": metrics,
        }
        _write(root / f"data/.provenance/{name}.json", record | {"machine_class": "0123456789abcdef"})
    for stage, steps, measured in (
        ("pretrain", 1100, "val_loss"),
        ("finetune_classify", 300, "val_accuracy"),
        ("finetune_instruct", 300, "val_loss"),
    ):
        _write_csv(root / f"data/plots/{stage}.csv", list(_curve(steps, measured, chance)))
    pairs = [
        (a, a if chance.random() < 0.93 else chance.choice(LABELS))
        for a in LABELS
        for _ in range(chance.randint(5, 300))
    ]
    _write_csv(root / "data/plots/confusion.csv", [{"actual": a, "predicted": p} for a, p in pairs])
    tale = " there was a miller who had left nothing behind but his mill, his ass and his cat. " * 5
    _write(
        root / "data/evaluation/samples.json",
        [
            {"models": ["pretrained", "loaded"], "prompt": "Once upon a time", "temperature": t, "text": text}
            for t, text in ((0.0, tale), (0.8, "\n\n" + tale + "W" * 300), (0.8, HOSTILE))
        ],
    )
    mistake = {"text": f"cts {HOSTILE} vs net shr " * 30, "actual": "crude", "predicted": "trade", "confidence": 0.98}
    _write(root / "data/checkpoints/finetune_classify/mistakes.json", [mistake] * 12)
    answers = [
        {
            "kind": k,
            "instruction": f"Do {k}.",
            "input": "stone",
            "expected": "enots",
            "answer": a,
            "correct": a == "enots",
        }
        for k in KINDS
        for a in ("enots", "enotsss " + HOSTILE)
    ]
    _write(root / "data/checkpoints/finetune_instruct/answers.json", answers)
    for stage in ("pretrain", "finetune_classify", "finetune_instruct"):
        choice = "labels_equal" if stage == "finetune_classify" else "greedy_equal"
        proof = {"max_logit_difference": "< 1e-5", "token_ids_equal": True, choice: True, "texts": 8, "tokens": 1234}
        _write(root / f"data/export/{stage}/parity.json", proof)


def _metrics() -> dict[str, dict[str, Any]]:
    scores = {"bits_per_byte": 1.868, "nats_per_token": 5.021, "perplexity": 151.6, "tokens": 32589}
    splits = {"train": 939220, "val": 53994, "test": 126434}
    kind = {"entries": 20, "chrf": 88.1, "untuned_exact_match": 0.0, "untuned_chrf": 9.2, "nearest_chrf": 31.0}
    shots = {"shots_0": 0.25, "shots_1": 0.3125, "shots_4": 0.4063}
    export = {"max_logit_difference": "< 1e-5", "parameters": 3474432, "bytes": 14_100_000}
    return {
        "download": {"files": 2, "bytes": 9, "sources": {"grimm": {"bytes": 416342, "documents": 54}, "r8_train": {}}},
        "tokenizer": {"n_vocab": 4096, "fingerprint": "a6c6" * 16},
        "tokenize": {"documents": {"train": 166, "val": 9}, "bytes": splits, "tokens": splits, "duplicates": 0},
        "windows": {"windows": {"train": 915, "val": 53, "test": 127}, "overlap": 0.0},
        "pretrain": {"val_loss": 5.05, "steps": 1100, "tokens_seen": 1126400, "parameters": 3474432},
        "load_gpt2": {"max_logit_difference": "< 1e-5"},
        "evaluate": {
            "test_bytes": 126434,
            "baselines": {
                "gzip": 3.02, "xz": 2.33, "kneser_ney_1": 2.48, "kneser_ney_2": 1.97, "kneser_ney_3": 1.88,
                "kneser_ney_5": 1.89,
            },
            "pretrained": scores,
            "loaded": scores,
            "same_model": True,
            "prompting": {
                "classification": {"examples": 64, "majority": 0.4944, "pretrained": shots, "loaded": shots},
                "instruction": {"examples": 96, "chance": 0.25, "pretrained": shots, "loaded": shots},
            },
        },
        "finetune_classify": {
            "accuracy": 0.9456, "macro_f1": 0.871, "baseline_accuracy": 0.976, "baseline_macro_f1": 0.93,
            "test_documents": 2189,
        },
        "finetune_instruct": {
            "exact_match": 0.61, "chrf": 74.2, "response_nats_per_token": 0.7,
            "untuned": {"exact_match": 0.0, "chrf": 8.1}, "nearest": {"exact_match": 0.08, "chrf": 33.0},
            "kinds": {
                k: {**kind, "exact_match": i / 8 + 0.1, "nearest_exact_match": i / 16} for i, k in enumerate(KINDS)
            },
            "kinds_above_nearest": 7,
        },
        "export-pretrain": {**export, "greedy_equal": True},
        "export-finetune_classify": {**export, "labels_equal": True},
        "export-finetune_instruct": {**export, "greedy_equal": True},
    }  # fmt: skip


def _curve(steps: int, measured: str, chance: random.Random) -> Iterator[dict[str, Any]]:
    for step in range(1, steps + 1):
        loss = 3.8 + 4.5 * math.exp(-step / 90) + chance.gauss(0, 0.15)
        value = loss + 0.4 if measured == "val_loss" else 1 - 0.6 * math.exp(-step / 80)
        yield {
            "step": step,
            "loss": f"{loss:.5f}",
            "learning_rate": 0.003 * min(1, (steps - step) / (0.6 * steps)),
            "grad_norm": abs(chance.gauss(0.8, 0.2)),
            measured: f"{value:.5f}" if step % 100 == 0 else "",
        }


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class Page(HTMLParser):
    """A page as its elements, the text of each section, and whether the tags are balanced."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.section = ""
        self.texts: dict[str, str] = {}
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(f"{tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.section and "style" not in self.open:
            self.texts[self.section] = self.texts.get(self.section, "") + data

    def text(self, section: str) -> str:
        return " ".join(self.texts[section].split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path)
    return tmp_path


def page_of(root: Path) -> Page:
    path = render(root, root / "data" / "report")
    assert path == root / "data" / "report" / "index.html"
    return Page(path)


def test_a_whole_run_fills_every_section(run: Path) -> None:
    page = page_of(run)
    assert [attributes["id"] for attributes in page.of("section")] == [section.name for section in SECTIONS]
    assert "Not run yet" not in page.html
    assert "can't be shown" not in page.html
    assert page.unbalanced == []
    assert page.open == []


@pytest.mark.parametrize(
    ("section", "facts"),
    [
        (
            "headline",
            [
                "1.868 bits/byte",
                "trigram 1.880 · xz 2.330",
                "94.6 %",
                "TF-IDF + linear SVM 97.6 %",
                "61.0 %",
                "3,474,432",
            ],
        ),
        ("headline", ["nearest neighbour 8.0 %", "7 of 8 kinds", "< 1e-5", "126,434 bytes", "54.0 s"]),
        ("graph", ["download", "load_gpt2", "export", "finetune_instruct", "4.5 s"]),
        ("data", ["grimm", "public domain", "416.3 kB", "research use only", "939,220", "915", "4,096"]),
        ("curves", ["5.05", "1,126,400", "accuracy", "nats/document", "learning rate", "gradient norm"]),
        ("language", ["5-gram", "1.890", "xz", "2.330", "151.6", "32,589"]),
        ("samples", ["Once upon a time there was a miller", "temperature 0.8", "pretrained = loaded"]),
        ("prompting", ["classification", "majority 49.4 %", "chance 25.0 %", "40.6 %", "4-shot", "96"]),
        ("classification", ["94.6 %", "0.871", "0.93", "money-fx", "2,189", "trade at 98.0 %, is crude"]),
        ("instructions", ["61.0 %", "74.2", "8.0 %", "reverse", "enots", "right", "wrong"]),
        ("exports", ["data/export/finetune_classify", "< 1e-5", "equal", "14.1 MB", "python -m gptcore chat"]),
        ("reproduction", ["make repro", "make ui", "machine class", "0123456789abcdef", "params.yaml", "threads"]),
    ],
)
def test_a_section_shows_its_numbers(run: Path, section: str, facts: list[str]) -> None:
    text = page_of(run).text(section)
    assert [fact for fact in facts if fact not in text] == []


def test_the_confusion_matrix_counts_every_test_document(run: Path) -> None:
    rows = list(csv.DictReader((run / "data/plots/confusion.csv").read_text().splitlines()))
    cells = {str(a["title"]) for a in page_of(run).of("td") if "→" in (a.get("title") or "")}
    expected = {
        f"{a} → {p}: {sum((row['actual'], row['predicted']) == (a, p) for row in rows)}" for a in LABELS for p in LABELS
    }
    assert cells == expected


def test_an_empty_project_says_what_to_run(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert page.unbalanced == []
    for section in SECTIONS:
        if section.name != "reproduction":
            assert "Not run yet" in page.text(section.name)
    assert "dvc repro evaluate" in page.text("language")
    assert "make repro" in page.text("reproduction")


@pytest.mark.parametrize("path", [f"data/metrics/{name}.json" for name in _metrics()])
def test_one_missing_file_leaves_the_rest(run: Path, path: str) -> None:
    (run / path).unlink()
    page = page_of(run)
    assert "can't be shown" not in page.html
    assert page.unbalanced == []


def _files(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("damage", ["", "{", '"text"', "[1, 2]", "{}", '{"accuracy": "high", "kinds": 3}'])
def test_damaged_files_never_stop_the_page(run: Path, damage: str) -> None:
    for path in _files(run):
        path.write_text(damage)
    page = page_of(run)
    assert page.unbalanced == []
    assert "make repro" in page.text("reproduction")


def test_a_damaged_file_is_named_where_it_is_missed_and_nowhere_else(run: Path) -> None:
    (run / "data/evaluation/samples.json").write_text('[{"prompt": ')
    page = page_of(run)
    assert "can't be shown" in page.text("samples")
    assert "samples.json" in page.text("samples")
    assert page.html.count("can't be shown") == 1


def test_text_stays_text(run: Path) -> None:
    page = page_of(run)
    assert page.of("script") == []
    assert page.of("img") == []
    assert HOSTILE in page.text("samples")
    assert HOSTILE in page.text("classification")
    assert HOSTILE in page.text("instructions")


def test_nothing_is_fetched(run: Path) -> None:
    page = page_of(run)
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not {"script", "iframe", "object", "embed", "base", "audio", "video", "source"} & {
        t for t, _ in page.elements
    }
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
    style = page.html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_curves_hold_their_values(run: Path) -> None:
    _write_csv(
        run / "data/plots/pretrain.csv",
        [{"step": 1, "loss": 2.0, "val_loss": ""}, {"step": 3, "loss": 1.0, "val_loss": 1.5}],
    )
    assert "validation, 3: 1.5" in page_of(run).text("curves")


# --- drawings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (3.8, 8.3, [4, 5, 6, 7, 8]), (0, 0.003, [0, 0.001, 0.002, 0.003])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_a_chart_survives_what_data_can_hold() -> None:
    assert line_chart("t", [Series("empty", [])], "x", "y") == ""
    assert line_chart("t", [Series("nan", [(1, math.nan)])], "x", "y") == ""
    for points in ([(1.0, 2.0)], [(1.0, 0.0), (2.0, 0.0)], [(1.0, -1e9), (2.0, 1e-9)], [(5.0, math.inf), (6.0, 1.0)]):
        drawing = line_chart("<t>", [Series("<s>", points, dots=True)], "x", "y")
        assert "nan" not in drawing
        assert "<t>" not in drawing
        assert "&lt;s&gt;" in drawing


def test_smoothing_follows_a_line_and_flattens_noise() -> None:
    line = [(float(i), 3.5 - 0.01 * i) for i in range(300)]
    assert smoothed(line) == [(x, pytest.approx(y)) for x, y in line]
    noisy = [(x, y + (-1) ** i) for i, (x, y) in enumerate(line)]
    assert all(abs(s - y) < 0.15 for (_, s), (_, y) in zip(smoothed(noisy)[5:-5], line[5:-5], strict=True))


def test_thinning_keeps_the_mean() -> None:
    points = [(float(i), float(i % 7)) for i in range(1000)]
    thin = thinned(points, 100)
    assert len(thin) == 100
    assert sum(y for _, y in thin) / 100 == pytest.approx(sum(y for _, y in points) / 1000)


def test_arrows_that_follow_from_others_are_left_out() -> None:
    upstream = {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["a", "c"], "e": ["a", "gone"]}
    assert sorted(dag_chart.direct_edges(upstream)) == [("a", "b"), ("a", "e"), ("b", "c"), ("c", "d")]


@pytest.mark.parametrize("source", ["data/checkpoints/pretrain", "data/raw"])
def test_boxes_never_overlap_and_arrows_go_forwards(source: str) -> None:
    upstream = {
        "download": [], "tokenizer": ["download"], "tokenize": ["download", "tokenizer"], "windows": ["tokenize"],
        "pretrain": ["windows"], "load": ["pretrain" if source.endswith("pretrain") else "download"],
        "evaluate": ["pretrain", "load"], "classify": ["load"], "instruct": ["load"], "export-c": ["classify"],
        "export-i": ["instruct"], "export-p": ["pretrain"],
    }  # fmt: skip
    paths, places = dag_chart.layout(upstream)
    for a, one in places.items():
        for b, other in places.items():
            assert a == b or one[0] != other[0] or abs(one[1] - other[1]) >= 0.999
    for path in paths:
        assert [places[node][0] for node in path] == list(range(int(places[path[0]][0]), int(places[path[-1]][0]) + 1))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(1234567), "1,234,567"), (number(1.86812), "1.868"), (number(None), "–"), (number(True), "yes"),
        (number([1, 2.5]), "1, 2.5"), (number("< 1e-5"), "< 1e-5"), (number(0), "0"), (number(0.0), "0"),
        (percent(0.943), "94.3\u202f%"), (percent(None), "–"), (size(17_099_760), "17.1 MB"), (size(12), "12 B"),
        (duration(4.5), "4.5 s"), (duration(75), "1 min 15 s"), (duration(7300), "2 h 1 min"), (duration(None), "–"),
    ],
)  # fmt: skip
def test_numbers_read_well(shown: str, expected: str) -> None:
    assert shown == expected


# --- in a browser -----------------------------------------------------------------------------------------


@pytest.fixture
def open_page(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open a page in headless Chromium; returns it and what the console said."""
    if not Path(CHROMIUM).exists():
        message = f"{CHROMIUM} is missing: the page was not tried in a browser (apt-get install chromium)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync",
    ]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:

            def opened(path: Path, width: int, scheme: Any) -> tuple[Any, list[str], list[str]]:
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                said: list[str] = []
                asked: list[str] = []
                page.on("console", lambda message: said.append(message.text))
                page.on("pageerror", lambda error: said.append(str(error)))
                page.on("request", lambda request: asked.append(request.url))
                page.goto(path.as_uri())
                return page, said, asked

            yield opened
        finally:
            browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("filled", [True, False], ids=["whole run", "empty"])
def test_the_page_fits_the_screen_in_silence(
    tmp_path: Path, open_page: Callable[..., Any], width: int, scheme: str, filled: bool
) -> None:
    if filled:
        write_run(tmp_path)
    path = render(tmp_path, tmp_path / "report")
    page, said, asked = open_page(path, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.locator("h2").count() == len(SECTIONS)
    if filled:
        shown = "dag-narrow" if width == 390 else "dag-wide"
        assert [svg.get_attribute("class") for svg in page.locator("svg.dag:visible").all()] == [f"dag {shown}"]
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{width}-{scheme}-{'full' if filled else 'empty'}.png", full_page=True)


@pytest.mark.browser
def test_the_page_prints(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    write_run(tmp_path)
    page, said, _ = open_page(render(tmp_path, tmp_path / "report"), 1280, "dark")
    printed = page.pdf(format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), "15mm"))
    assert printed.startswith(b"%PDF")
    assert said == []
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder, "print.pdf").write_bytes(printed)


def test_the_template_is_part_of_an_installation() -> None:
    project = Path(__file__).resolve().parents[2]
    packaging = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = packaging.get("package-data", {}).get("pipeline", [])
    assert any(fnmatch(TEMPLATE, pattern) for pattern in patterns), (
        'pyproject.toml: package-data = {pipeline = ["*.j2"]}'
    )

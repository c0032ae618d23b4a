"""The page: from a whole run, from nothing, from damaged and hostile files."""

import base64
import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import pipeline.report
from pipeline.report.page import render

PACKAGE, PROJECT = Path(pipeline.report.__file__).parent, Path(__file__).resolve().parents[3]
KINDS = ("numbers", "table", "curves", "bars", "matrix", "texts", "note")
Read = Callable[[Path], Any]


def test_sections_are_in_the_order_of_the_graph_and_views_of_one_title_share_one(run: Path, page_of: Read) -> None:
    page = page_of(run)
    of_views = ["Data", "Training", "Evaluation", "Exports", "Of a stage that the graph does not know"]
    assert list(page.texts) == ["Results", "Stages", *of_views, "Reproduce"]
    assert (page.unbalanced, page.open) == ([], [])
    assert "can't be shown" not in page.html
    cards = [a["href"] for a in page.of("a") if a.get("class") == "card"]
    sections = {f"#{a['id']}" for a in page.of("section")}
    assert len(cards) == 3
    assert set(cards) < sections


@pytest.mark.parametrize(
    ("section", "facts"),
    [
        ("Results", ["model 1.868 bits/byte 5-gram 1.884, xz 2.308", "94.6 % right", "Share of the test documents."]),
        ("Stages", ["fetch", "ship", "small", "1 min 15 s"]),
        ("Data", ["Sources", "416.3 kB", "Kept by hash.", "–"]),
        ("Training", ["1,100 steps in all", "25.0 %", "cost", "nats by optimizer step", "held out"]),
        ("Evaluation", ["2.308", "ours", "money-fx", "300", "95.7 %", "Once upon a time there was", "7.5 %", "t 0.8"]),
        ("Exports", ["data/export/small", "14.1 MB", "data/export/large", "99 B", "python -m gptcore generate"]),
        ("Reproduce", ["make repro", "make ui", "make report", "7 min 32 s", "2026-01-02 03:04:05", "threads", "seed"]),
    ],
)  # fmt: skip
def test_a_section_shows_what_its_views_say(run: Path, page_of: Read, section: str, facts: list[str]) -> None:
    text = page_of(run).text(section)
    assert [fact for fact in facts if fact not in text] == []


def test_the_matrix_counts_every_pair(run: Path, page_of: Read) -> None:
    view = json.loads((run / "data/views/judge.json").read_text())
    matrix = next(block for block in view["blocks"] if block["kind"] == "matrix")
    cells = {a["title"] for a in page_of(run).of("td") if len(a.get("title") or "W" * 300) < 300}
    rows = zip(matrix["labels"], matrix["counts"], strict=True)
    assert cells == {f"{a} → {p}: {n}" for a, row in rows for p, n in zip(matrix["labels"], row, strict=True)}


def test_text_stays_text(run: Path, page_of: Read, hostile: str) -> None:
    page = page_of(run)
    assert page.of("img") == []
    for section in ("Results", "Stages", "Data", "Training", "Evaluation", "Reproduce"):
        assert hostile in page.text(section)
    kinds = [script.get("type") for script in page.of("script")]
    assert kinds == ["application/json", None, None]
    assert hostile in str(json.loads(page.scripts[0]))
    assert "alert" not in page.scripts[2]


def test_nothing_is_fetched_and_only_the_pages_own_scripts_may_run(run: Path, page_of: Read) -> None:
    page = page_of(run)
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts[1:]]
    scripts = " ".join(f"'sha256-{value}'" for value in hashes)
    assert policy == f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:"
    assert not {"iframe", "object", "embed", "base", "audio", "video", "source"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
    style = (PACKAGE / "page.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_a_page_with_curves_is_at_most_3_mb_and_one_without_has_no_script(run: Path, page_of: Read) -> None:
    assert len(page_of(run).html.encode()) < 3_000_000
    for name in ("train", "afterthought"):
        (run / f"data/views/{name}.json").unlink()
    page = page_of(run)
    assert page.of("script") == []
    assert len(page.html) < 100_000


def test_an_empty_project_says_what_to_run(tmp_path: Path, page_of: Read) -> None:
    page = page_of(tmp_path)
    assert "Not run yet. make repro" in page.text("Results")
    assert "dvc repro fetch train judge ship@small ship@large" in page.text("Stages")
    assert "make repro" in page.text("Reproduce")
    assert "Not run yet" in render(tmp_path, tmp_path / "without a graph").read_text()


def test_a_missing_view_leaves_the_rest(run: Path, page_of: Read) -> None:
    (run / "data/views/judge.json").unlink()
    (run / "data/.provenance/judge.json").unlink()
    page = page_of(run)
    assert "can't be shown" not in page.html
    assert "Not run yet: dvc repro judge" in page.text("Stages")
    assert "Evaluation" not in page.texts


@pytest.mark.parametrize("damage", ["", "{", '"text"', "[1, 2]", "[" * 100_000, '{"title": 3}', '{"blocks": {}}'])
def test_a_damaged_view_is_named_in_its_place_and_nowhere_else(run: Path, page_of: Read, damage: str) -> None:
    (run / "data/views/judge.json").write_text(damage)
    page = page_of(run)
    assert list(page.texts)[3:6] == ["Training", "judge", "Exports"]
    assert "can't be shown: judge.json: not" in page.text("judge")
    assert page.html.count("can't be shown") == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", [None, 7, [[]], {"x": 1}], ids=str)
def test_a_damaged_block_leaves_its_neighbours(run: Path, page_of: Read, kind: str, damage: Any) -> None:
    good = {"kind": "note", "text": "stays"}
    keys = {
        "numbers": "values",
        "table": "rows",
        "curves": "lines",
        "matrix": "counts",
        "texts": "items",
        "note": "text",
    }
    plain = {"kind": kind, "title": "t", "columns": [["a", "text"]], "file": "no.csv", "unit": "", "labels": ["a"]}
    view = {"title": "Judged", "blocks": [good, plain | {keys.get(kind, kind): damage}, 3, {"kind": "new"}, good]}
    (run / "data/views/judge.json").write_text(json.dumps(view))
    page = page_of(run)
    assert page.text("Judged").count("stays") == 2
    assert page.html.count("can't be shown") == (2 if (kind, damage) == ("table", [[]]) else 3)
    assert page.unbalanced == []


@pytest.mark.parametrize("damage", ["", "\0", '"text"', "[1, 2]", "{}", '{"seconds": "x", "started": []}'])
def test_damage_everywhere_never_stops_the_page(run: Path, page_of: Read, damage: str) -> None:
    for path in [path for path in run.rglob("*") if path.is_file()]:
        path.write_text(damage)
    assert "make repro" in page_of(run).text("Reproduce")


@pytest.mark.parametrize("file", ["/etc/passwd", "../secret.csv", "data/plots/none.csv", "data/views/judge.json", ""])
def test_curves_come_from_a_csv_of_this_project_or_are_named(run: Path, page_of: Read, file: str) -> None:
    (run.parent / "secret.csv").write_text("step,cost\n1,2\n")
    view = json.loads((run / "data/views/train.json").read_text())
    view["blocks"][1]["file"] = file
    (run / "data/views/train.json").write_text(json.dumps(view))
    assert f"can't be shown: {file}" in page_of(run).text("Training")


def test_no_stage_is_named_in_the_report() -> None:
    stages = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    names = "|".join(sorted(set(stages) - {"export"}))  # which is also the directory that the summary points to
    for path in PACKAGE.iterdir():
        if path.is_file():
            assert re.findall(rf"\b({names})\b", path.read_text(encoding="utf-8")) == [], path


def test_what_is_not_python_is_part_of_an_installation() -> None:
    packaging = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = packaging["package-data"]["pipeline.report"]
    for path in PACKAGE.iterdir():
        assert path.suffix in ("", ".py") or any(fnmatch(path.name, pattern) for pattern in patterns), path

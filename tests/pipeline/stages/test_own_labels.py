"""A user's own labelled table, from a few lines of parameters to a classifier, through the stages' own doors."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from gptcore.artifact import open_verified
from gptcore.config import GPTConfig
from gptcore.errors import DataError, ParameterError
from gptcore.formats.directory import load_classifier, save_model
from gptcore.model import GPT
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.contract import params
from pipeline.corpus.documents import read_labelled
from pipeline.corpus.splits import place_of
from pipeline.sources import own_text
from pipeline.stages.download import download
from pipeline.stages.finetune_classify import FinetuneClassifyConfig, finetune_classify
from pipeline.store.checkpoint import LANGUAGE_MODEL, Checkpoint
from pipeline.store.plain import as_plain
from pipeline.store.raw import Raw
from pipeline.store.splits import SPLITS
from pipeline.store.view import Outcome
from pipeline.tracking.tracker import NullTracker

ROOT = Path(__file__).resolve().parents[3]
REVIEWS = {
    "uri": "own://reviews.csv", "role": "classification", "format": "csv", "text_column": "review",
    "label_column": "stars", "labels": ["bad", "good"],
}  # fmt: skip
"""What README tells a user to write."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("GPTCORE_TRACKING", "off")
    monkeypatch.setenv("GPTCORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data" / "own").mkdir(parents=True)
    (tmp_path / "data" / "own" / "tale.txt").write_text("Once upon a time.")
    return tmp_path


def reviews(**more: list[str]) -> pd.DataFrame:
    """Forty reviews whose words tell their label; quotes, commas and line breaks in them."""
    words = {"bad": 'dull, grey\nand "slow"', "good": "bright; quick\r\nand 'fine' 😀"}
    rows = [(f"{number} was {words[label]}", label) for number in range(20) for label in words]
    return pd.DataFrame(rows, columns=["review", "stars"]).assign(**more)


def write(table: pd.DataFrame, name: str = "reviews.csv") -> None:
    table.to_csv(Path("data/own") / name, index=False, sep="\t" if name.endswith(".tsv") else ",")


def parameters(**sources: dict[str, Any]) -> dict[str, Any]:
    """The project's own parameters with these sources, the labelled ones in use, and no corpus to be fetched."""
    document = params.read(ROOT / "params.yaml")
    download = document["download"]
    download["sources"] = {n: s for n, s in download["sources"].items() if n.startswith("r8")} | sources
    return document | {"download": {**download, "use_own": True, "labelled": list(sources)}}


def run(**sources: dict[str, Any]) -> Outcome:
    YAML().dump(parameters(**sources), Path("params.yaml"))
    return download(Path("data/own"), Path("data/raw"), params.load_stage("download", Path("params.yaml"))["cfg"])


def labelled(split: str) -> list[tuple[str, str]]:
    return [(d.text, d.label) for d in read_labelled(Raw.open(Path("data/raw")), split, optional=True)]


def test_a_table_becomes_a_classifier(project: Path) -> None:
    write(reviews())
    told = run(reviews=REVIEWS).metrics["sources"]["reviews"]
    assert told["documents"] == 40
    assert sum(told["splits"].values()) == 40
    metrics = tune(project)
    assert metrics["test_documents"] == told["splits"]["test"]
    assert metrics["train_documents"] + metrics["val_documents"] == told["splits"]["train"]
    assert min(metrics["test_documents"], metrics["val_documents"]) > 0
    assert metrics["accuracy"] == metrics["baseline_accuracy"] == 1.0
    counts = Counter(label for _, label in labelled("train"))
    share = [label for _, label in labelled("test")].count(max(counts, key=lambda label: counts[label]))
    assert metrics["majority_accuracy"] == round(share / metrics["test_documents"], 4)
    assert load_classifier(project / "classifier").labels == ["bad", "good"]
    described = open_verified(project / "classifier", "checkpoint").config["sources"]
    assert described["reviews"] == {"uri": "", "licence": "the user's own data"}  # no path of the user's in a card


def test_a_few_documents_of_each_label_are_drawn_by_the_seed(project: Path) -> None:
    write(reviews())
    run(reviews=REVIEWS)
    all_of_it = tune(project)
    metrics = [tune(project, documents_per_label=3, max_steps=5, seed=seed) for seed in (1, 1, 2)]
    assert {m["train_documents"] for m in metrics} == {6}
    assert {m["val_documents"] for m in metrics} == {all_of_it["val_documents"]}
    assert metrics[0] == metrics[1]
    assert metrics[0]["train_loss"] != metrics[2]["train_loss"]
    assert {m["majority_accuracy"] for m in metrics} == {all_of_it["majority_accuracy"]}  # of all that there are
    assert tune(project, documents_per_label=99) == all_of_it | {"train_loss": ANY}


def tune(project: Path, **changes: Any) -> dict[str, Any]:
    vocabulary = BytePairs.train(reviews()["review"].tolist(), 300)
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=vocabulary.n_vocab, context_length=32, d_model=16, n_layer=1, n_head=2))
    with Checkpoint.create(project / "model", {"stage": "x", "about": as_plain(LANGUAGE_MODEL)}) as draft:
        save_model(model, draft, vocabulary)
    settings = {"max_steps": 40, "learning_rate": 0.02, "dtype": "float32", "seed": 1, "max_tokens": 32}
    batches = {"batch_documents": 6, "val_fraction": 0.2, "eval_every": 40, "save_every": 40}
    cfg = FinetuneClassifyConfig(**settings | batches | changes)
    out, curve, confusion = project / "classifier", project / "curve.csv", project / "confusion.csv"
    return finetune_classify(project / "model", project / "data/raw", out, curve, confusion, cfg, NullTracker()).metrics


@pytest.mark.parametrize("name", ["reviews.csv", "reviews.tsv"])
def test_every_row_arrives_as_pandas_wrote_it_and_goes_by_its_hash(project: Path, name: str) -> None:
    table = reviews()
    write(table, name)
    run(reviews=REVIEWS | {"uri": f"own://{name}", "format": name[-3:], "test_fraction": 0.25})
    rows = {(text.replace("\r\n", "\n"), label) for text, label in zip(table["review"], table["stars"], strict=True)}
    assert {*labelled("train"), *labelled("test")} == rows
    assert not labelled("val")
    assert {text.replace("\r\n", "\n") for text in table["review"] if place_of(text) >= 0.75} == {
        text for text, _ in labelled("test")
    }
    before = labelled("test")
    write(pd.concat([reviews().assign(review="new " + table["review"]), table]), name)
    run(reviews=REVIEWS | {"uri": f"own://{name}", "format": name[-3:], "test_fraction": 0.25})
    assert {*before} < {*labelled("test")}  # what was held out stays so when rows are added


def test_a_split_column_is_obeyed_and_its_validation_rows_are_used(project: Path) -> None:
    write(reviews(part=["train", "train", "val", "val", "test"] * 8))
    told = run(reviews=REVIEWS | {"split_column": "part"}).metrics["sources"]["reviews"]
    assert told["splits"] == {"test": 8, "train": 16, "val": 16}
    assert {split: len(labelled(split)) for split in SPLITS} == {"train": 16, "val": 16, "test": 8}
    metrics = tune(project)
    assert [metrics[f"{split}_documents"] for split in SPLITS] == [16, 16, 8]


def test_json_lines_are_split_likewise(project: Path) -> None:
    lines = [json.dumps({"review": f"{i} fine", "stars": "good", "part": SPLITS[i % 3]}) + "\n" for i in range(9)]
    (project / "data/own/sub").mkdir()
    (project / "data/own/sub/r.jsonl").write_text("".join(lines))
    run(reviews=REVIEWS | {"uri": "own://sub/r.jsonl", "format": "jsonl", "split_column": "part"})
    assert Counter(len(labelled(split)) for split in SPLITS) == {3: 3}
    assert [s.name for s in Raw.open(project / "data/raw").having("corpus")] == ["own-text"]  # it is no corpus too


def test_two_files_may_be_the_two_splits(project: Path) -> None:
    write(reviews()[:30], "a.csv")
    write(reviews()[30:], "b.csv")
    run(a=REVIEWS | {"uri": "own://a.csv", "split": "train"}, b=REVIEWS | {"uri": "own://b.csv", "split": "test"})
    assert (len(labelled("train")), len(labelled("test"))) == (30, 10)


def test_what_nobody_chose_is_not_fetched(project: Path) -> None:
    write(reviews())
    run(reviews=REVIEWS)
    assert [source.name for source in Raw.open(project / "data/raw").having("classification")] == ["reviews"]
    assert not (project / "cache").exists() or not list((project / "cache").iterdir())


# --- what is refused, before anything is trained ----------------------------------------------------------


def test_bad_rows_are_told_by_the_name_that_the_user_knows(project: Path) -> None:
    table = io.StringIO()
    csv.writer(table).writerows([["review", "stars"], ["fine", "good"], ["odd", "so-so"], ["none"]])
    (project / "data/own/reviews.csv").write_text(table.getvalue())
    with pytest.raises(DataError, match=r"(?s)source 'reviews' \(own://reviews\.csv\): 2 bad row.*line 3:.*line 4:"):
        run(reviews=REVIEWS)
    assert not (project / "data/raw").exists()


@pytest.mark.parametrize(
    ("table", "changes", "complaint"),
    [
        (reviews()[:1], {}, r"labelled sources: 1 documents, none of them for test; add documents"),
        (reviews(part="train"), {"split_column": "part"}, "40 documents, none of them for test"),
        (reviews(part="test"), {"split_column": "part"}, "40 documents, none of them for train"),
        (reviews(part="dev"), {"split_column": "part"}, "line 2: expected train, val, test under 'part', found 'dev'"),
        (reviews(), {"uri": "own://none.csv"}, "own://none.csv: expected a file at .*none.csv, found none"),
        (reviews(), {"sha256": "0" * 64}, "own://reviews.csv: expected sha256 0{64}, found [0-9a-f]{64}; correct"),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused(
    project: Path, table: pd.DataFrame, changes: dict[str, Any], complaint: str
) -> None:
    write(table)
    with pytest.raises(DataError, match=complaint):
        run(reviews=REVIEWS | changes)


def test_a_folder_that_is_a_link_is_refused_as_dvc_would_not_see_a_change(project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/reviews.csv").write_text("review,stars\n")
    (project / "data/own/link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"own://link/reviews\.csv: .*link is a link to a directory"):
        run(reviews=REVIEWS | {"uri": "own://link/reviews.csv"})


def test_one_label_alone_is_refused_by_the_training(project: Path) -> None:
    write(reviews().query("stars == 'good'"))
    run(reviews=REVIEWS)
    with pytest.raises(DataError, match="expected training documents of two labels or more and some for validation"):
        tune(project)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"uri": "own://../secret.csv"}, r"uri: expected own:// and the path of a file in data/own"),
        ({"uri": "own:///etc/passwd"}, r"uri: expected own://"),
        ({"uri": "own://"}, r"uri: expected own://"),
        ({"uri": "own://a\x1b.csv"}, r"uri: expected own://.*\\x1b"),
        ({"uri": f"own://{'x' * 256}"}, r"uri: expected own://"),
        ({"sha256": "abc"}, "sha256: expected 64"),
        ({"labels": []}, "label_column, labels: needed for role classification"),
        ({"split": "train", "split_column": "part"}, "split: is of the whole file, split_column of each row"),
        ({"test_fraction": 0.5}, r"test_fraction = 0\.5: expected a number above 0 and below 0\.5"),
        ({"role": "corpus", "label_column": "", "labels": [], "split_column": "part"}, "split, split_column: only for"),
    ],
)
def test_a_bad_description_is_refused(project: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ParameterError, match=complaint):
        run(reviews=REVIEWS | changes)


def test_labels_that_differ_need_a_choice(project: Path) -> None:
    write(reviews())
    document = parameters(reviews=REVIEWS)
    for labelled_sources, complaint in (([], "name those to use in download.labelled"), (["x"], "labelled: expected")):
        document["download"]["labelled"] = labelled_sources
        YAML().dump(document, Path("params.yaml"))
        with pytest.raises(ParameterError, match=complaint):
            params.load_stage("download", Path("params.yaml"))


def test_no_path_leads_out_of_the_folder() -> None:
    for name in ("a.csv", "sub/a.csv", ".a.csv", "a b.csv"):
        assert own_text.problem_with(f"own://{name}") is None, name
    for name in ("..", "a/../b", "/a", "a//b", "./a", "a/", "a\\b", "a\nb", "."):
        assert own_text.problem_with(f"own://{name}") is not None, name

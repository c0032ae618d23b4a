"""The stage ``evaluate`` on a tiny trained model and tiny data, all made by the stages and writers of the project."""

import csv
import gzip
import hashlib
import json
import math
import random
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from gptcore import runtime
from gptcore.artifact import open_verified
from gptcore.config import GPTConfig
from gptcore.errors import DataError, ParameterError
from gptcore.formats.directory import load_model, save_model
from gptcore.model import GPT
from gptcore.objectives.response import instruction_batch
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from gptcore.train import TrainConfig, train
from pipeline.corpus.splits import SplitConfig
from pipeline.corpus.steps import CleanConfig
from pipeline.evaluation import held_out
from pipeline.stages.download import DownloadConfig, SourceConfig, download
from pipeline.stages.evaluate import EvaluateConfig, evaluate
from pipeline.stages.tokenize import tokenize
from pipeline.stages.tokenizer import TokenizerConfig, tokenizer
from pipeline.store.checkpoint import LANGUAGE_MODEL, Checkpoint
from pipeline.store.plain import as_plain
from pipeline.store.tokens import TokenDocument, Tokens
from pipeline.store.view import Outcome
from pipeline.tasks import prompting
from pipeline.tasks.prompting import BETWEEN
from pipeline.tasks.sets.classification import TOPIC

CONTEXT = 64
SPLIT = SplitConfig(val_fraction=0.1, test_fraction=0.3, min_documents=10)
CLEAN = CleanConfig(["line-ends", "exact-duplicates"])
CONFIG = EvaluateConfig(
    stride=0,
    batch_windows=4,
    prompts=["The cat saw", ""],
    temperatures=[0.0, 0.9],
    max_new_tokens=12,
    shots=[0, 2],
    prompt_examples=20,
    prompt_examples_per_kind=5,
    seed=7,
)
WORDS = {"animal": ["cat", "dog", "cow", "hen"], "tool": ["saw", "axe", "rake", "file"]}


class Shelf:
    """A tracker that remembers what it was given."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}

    def log(self, metrics: Any, step: int) -> None: ...

    def artifact(self, path: Path, name: str) -> None:
        self.artifacts[name] = path.read_bytes()


@dataclass(frozen=True)
class World:
    """Every input of the stage, by the name of its parameter."""

    root: Path

    def run(
        self, out: Path, cfg: EvaluateConfig = CONFIG, tracker: Shelf | None = None, **paths: Path
    ) -> dict[str, Any]:
        return self.outcome(out, cfg, tracker, **paths).metrics

    def outcome(self, out: Path, cfg: EvaluateConfig = CONFIG, tracker: Shelf | None = None, **paths: Path) -> Outcome:
        names = ("pretrained", "loaded", "tokens", "tokenizer", "raw")
        given = {name: self.root / name for name in names} | {"instructions": self.root / "instructions.jsonl"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DVC_ROOT", str(out.parent))  # where the scratch is
            return evaluate(**(given | paths), out=out, cfg=cfg, tracker=tracker or Shelf())


@dataclass(frozen=True)
class Result:
    """What one run left behind."""

    out: Path
    metrics: dict[str, Any]
    view: dict[str, Any]
    shelf: Shelf


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(root))
        patch.setenv("GPTCORE_CACHE", str(root / "cache"))
        make_data(root)
    vocabulary = Tokenizer.load(root / "tokenizer")
    trained = trained_model(root, vocabulary)
    for name, model in {"pretrained": trained, "loaded": trained, "other": GPT(trained.config)}.items():
        save(root / name, model, vocabulary)
    return World(root)


def make_data(root: Path) -> None:
    """Tales of some sentences, lists of three words with their label, questions with one-word answers."""
    draw = random.Random(0)
    lists = [(label, " ".join(draw.sample(words, 3))) for _ in range(60) for label, words in WORDS.items()]
    lists = [pair for i, pair in enumerate(lists) if i % 6 != 1]  # more animals than tools
    tales = [
        " ".join(f"The {draw.choice(['cat', 'dog'])} saw the {draw.choice(['cow', 'axe'])}." for _ in "123")
        for _ in "x" * 90
    ]
    tales = [f"{tale} É {n}." for n, tale in enumerate(tales)]
    corpus = jsonl(root / "tales.jsonl", [{"text": tale} for tale in tales])
    news = {
        split: jsonl(root / f"{split}.jsonl", [{"text": text, "label": label} for label, text in part])
        for split, part in (("train", lists[:60]), ("test", lists[60:]))
    }
    questions = [
        {"instruction": "Say it.", "input": word, "output": word, "kind": kind, "split": split}
        for split in ("train", "test")
        for kind, words in WORDS.items()
        for word in words
    ]
    jsonl(root / "instructions.jsonl", questions)
    labelled = {"label_column": "label", "labels": list(WORDS)}
    sources = {"tales": source(corpus, role="corpus")}
    sources |= {name: source(path, role="classification", split=name, **labelled) for name, path in news.items()}
    download(root / "own", root / "raw", DownloadConfig(sources))
    tokenizer(root / "raw", root / "tokenizer", TokenizerConfig("bpe", 320), SPLIT, CLEAN)
    tokenize(root / "raw", root / "tokenizer", root / "tokens", SPLIT, CLEAN)


def documents_of(root: Path, split: str) -> list[TokenDocument]:
    return Tokens.open(root / "tokens").documents(split)


def jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def source(path: Path, **fields: Any) -> SourceConfig:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return SourceConfig(f"file://{path}", sha256, format="jsonl", licence="public domain", text_column="text", **fields)


def config_of(vocabulary: Tokenizer) -> GPTConfig:
    return GPTConfig(vocab_size=vocabulary.n_vocab, context_length=CONTEXT, d_model=32, n_layer=1, n_head=2)


def trained_model(root: Path, vocabulary: Tokenizer) -> GPT:
    """A model that has read the training tales and the labelled training lists."""
    torch.manual_seed(0)
    model = GPT(config_of(vocabulary))
    rows = [row.ids.tolist() for row in documents_of(root, "train")]
    for line in (root / "train.jsonl").read_text().splitlines():
        fields = json.loads(line)
        rows.append([t for p in (fields["text"], TOPIC, f" {fields['label']}", BETWEEN) for t in vocabulary.encode(p)])
    examples = [([vocabulary.eot, *row[:-1]], row) for row in rows]
    draw = random.Random(0)
    batches = (instruction_batch(draw.sample(examples, 16), vocabulary.eot) for _ in range(200))
    for _ in train(model, batches, TrainConfig(max_steps=200, learning_rate=1e-2, dtype="float32")):
        pass
    return model


def save(directory: Path, model: GPT, vocabulary: Tokenizer) -> None:
    with Checkpoint.create(directory, {"stage": directory.name, "about": as_plain(LANGUAGE_MODEL)}) as draft:
        save_model(model, draft, vocabulary)


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same arithmetic on every processor."""
    monkeypatch.setattr(runtime, "has_fast_bfloat16", lambda *_: False)


@pytest.fixture(scope="module")
def result(world: World, tmp_path_factory: pytest.TempPathFactory) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "has_fast_bfloat16", lambda *_: False)
        out, shelf = tmp_path_factory.mktemp("result") / "evaluation", Shelf()
        outcome = world.outcome(out, tracker=shelf)
        return Result(out, outcome.metrics, outcome.view.plain(), shelf)


def held_out_texts(world: World) -> list[str]:
    """The test tales as they were written down, chosen by their hashes."""
    hashes = {row.sha256 for row in documents_of(world.root, "test")}
    tales = [json.loads(line)["text"] for line in (world.root / "tales.jsonl").read_text().splitlines()]
    return [tale for tale in tales if hashlib.sha256(tale.encode()).hexdigest() in hashes]


# --- numbers ----------------------------------------------------------------------------------------------


def test_bits_per_byte_is_the_loss_of_transformers(world: World, result: Result) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(world.root / "pretrained", local_files_only=True).eval()
    vocabulary, texts = Tokenizer.load(world.root / "pretrained"), held_out_texts(world)
    nats, n_tokens = 0.0, 0
    for text in texts:
        ids = torch.tensor([[vocabulary.eot, *vocabulary.encode(text)]])
        assert ids.shape[1] <= CONTEXT  # a single window
        with torch.no_grad():
            nats += theirs(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        n_tokens += ids.shape[1] - 1
    n_bytes = sum(len(text.encode()) for text in texts)
    assert result.metrics["test_bytes"] == n_bytes
    assert result.metrics["pretrained"] == {
        "bits_per_byte": pytest.approx(nats / math.log(2) / n_bytes, abs=2e-4),
        "nats_per_token": pytest.approx(nats / n_tokens, abs=2e-4),
        "perplexity": pytest.approx(math.exp(nats / n_tokens), rel=1e-3),
        "tokens": n_tokens,
    }


def test_baselines_see_the_same_bytes(world: World, result: Result) -> None:
    training, held_out = (
        "".join(vocabulary.decode(row.ids.tolist()) for row in documents_of(world.root, split)).encode()
        for vocabulary in [Tokenizer.load(world.root / "tokenizer")]
        for split in ("train", "test")
    )
    assert held_out.decode() == "".join(held_out_texts(world))
    baselines = result.metrics["baselines"]
    assert list(baselines) == ["gzip", "xz", *(f"kneser_ney_{order}" for order in (1, 2, 3, 5))]
    added = len(gzip.compress(training + held_out, mtime=0)) - len(gzip.compress(training, mtime=0))
    assert baselines["gzip"] == pytest.approx(8 * added / len(held_out), abs=1e-4)
    assert 0 < result.metrics["pretrained"]["bits_per_byte"] < baselines["kneser_ney_1"]
    assert baselines["kneser_ney_1"] == pytest.approx(unigram_bits(world) / len(held_out), rel=0.02)


def unigram_bits(world: World) -> float:
    """Bits of the held-out tokens if each is as frequent as in training: the unsmoothed unigram model."""
    training, held_out = (
        np.concatenate([row.ids for row in documents_of(world.root, split)]) for split in ("train", "test")
    )
    counts = np.bincount(training, minlength=320) + 0.01
    return float(-np.log2(counts[held_out] / counts.sum()).sum())


def test_what_a_model_has_read_it_answers(world: World, result: Result) -> None:
    scores = result.metrics["prompting"]["classification"]
    assert scores["examples"] == 20
    assert scores["majority"] == pytest.approx(0.6, abs=0.2)
    assert scores["pretrained"]["shots_0"] == 1.0 > scores["majority"]
    instruction = result.metrics["prompting"]["instruction"]
    assert instruction["examples"] == 8
    assert instruction["chance"] == 0.25
    assert set(instruction["pretrained"]) == {"shots_0", "shots_2"}


def test_a_sample_is_what_full_passes_give(world: World, result: Result) -> None:
    model, vocabulary = load_model(world.root / "pretrained"), Tokenizer.load(world.root / "pretrained")
    ids = [vocabulary.eot, *vocabulary.encode("The cat saw")]
    start = len(ids)
    with torch.no_grad():
        for _ in range(CONFIG.max_new_tokens):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    samples = json.loads((result.out / "samples.json").read_text())
    assert [(s["prompt"], s["temperature"]) for s in samples] == [
        (prompt, temperature) for prompt in CONFIG.prompts for temperature in CONFIG.temperatures
    ]
    assert samples[0]["text"] == vocabulary.decode(ids[start:]).partition("<|endoftext|>")[0]
    assert f"    The cat saw{samples[0]['text']}\n" in (result.out / "samples.md").read_text()


def test_only_the_tasks_that_are_named_are_solved(world: World, result: Result, tmp_path: Path) -> None:
    metrics = world.run(tmp_path / "out", cfg=replace(CONFIG, tasks=["instruction"]))
    assert metrics["prompting"] == {"instruction": result.metrics["prompting"]["instruction"]}


def test_a_bound_on_the_context_bounds_the_windows_and_the_prompts(
    world: World, result: Result, tmp_path: Path
) -> None:
    bounded = world.run(tmp_path / "16", cfg=replace(CONFIG, context=16))
    assert bounded["pretrained"]["bits_per_byte"] > result.metrics["pretrained"]["bits_per_byte"]
    assert mean_shots(tmp_path / "16" / "prompting.csv") < mean_shots(result.out / "prompting.csv")
    assert world.run(tmp_path / "65", cfg=replace(CONFIG, context=CONTEXT + 1)) == result.metrics


def mean_shots(table: Path) -> float:
    with table.open(encoding="utf-8", newline="") as file:
        return sum(float(row["mean_shots"]) for row in csv.DictReader(file))


def test_a_prompt_more_leaves_the_other_samples_as_they_are(world: World, result: Result, tmp_path: Path) -> None:
    world.run(tmp_path / "out", cfg=replace(CONFIG, prompts=["A dog", *CONFIG.prompts]))
    world.run(tmp_path / "reseeded", cfg=replace(CONFIG, seed=CONFIG.seed + 1))
    before, more, reseeded = (
        [sample["text"] for sample in json.loads((out / "samples.json").read_text())]
        for out in (result.out, tmp_path / "out", tmp_path / "reseeded")
    )
    assert more[2:] == before
    assert [a == b for a, b in zip(reseeded, before, strict=True)] == [True, False] * 2  # greedy, drawn


def test_calibration_adds_its_report_and_changes_nothing_else(world: World, result: Result, tmp_path: Path) -> None:
    outcome = world.outcome(tmp_path / "out", replace(CONFIG, calibrate=True), loaded=world.root / "other")
    plain = world.outcome(tmp_path / "plain", loaded=world.root / "other")
    metrics = dict(outcome.metrics)
    report = metrics.pop("calibration")
    assert metrics == plain.metrics
    assert set(report) == {"classification"}  # an instruction has no text that could be left out
    labels = report["classification"]
    assert set(labels) == {"majority", "pretrained", "loaded"}
    for model in ("pretrained", "loaded"):
        for shots, accuracy in metrics["prompting"]["classification"][model].items():
            assert labels[model][shots]["uncalibrated"]["accuracy"] == accuracy
    assert labels["pretrained"]["shots_0"]["uncalibrated"] == {"accuracy": 1.0, "macro_f1": 1.0}
    share = labels["majority"]["accuracy"]
    assert share == metrics["prompting"]["classification"]["majority"]
    actual = ["animal"] * round(20 * share) + ["tool"] * (20 - round(20 * share))
    by_hand = f1_score(actual, ["animal"] * 20, average="macro", zero_division=0)
    assert labels["majority"]["macro_f1"] == pytest.approx(by_hand, abs=1e-4)
    with open(tmp_path / "out" / "prompting.csv", newline="") as file:
        for row in csv.DictReader(file):
            found = labels.get(row["model"], {}).get(f"shots_{row['shots']}") if row["task"] != "instruction" else None
            cells = [row[name] for name in ("macro_f1", "calibrated_accuracy", "calibrated_macro_f1")]
            assert cells == (
                [str(found["uncalibrated"]["macro_f1"]), *(str(value) for value in found["calibrated"].values())]
                if found
                else ["", "", ""]
            )
    (table,) = [b for b in outcome.view.plain()["blocks"] if "calibrated" in b["title"]]
    assert [row[0] for row in table["rows"]][-1] == "majority"
    assert len(table["rows"]) == 2 * len(CONFIG.shots) + 1
    manifest = open_verified(tmp_path / "out", "evaluation").config
    assert manifest["calibrate"] is True
    assert "calibrate" not in open_verified(result.out, "evaluation").config


# --- one model or two -------------------------------------------------------------------------------------


def test_equal_models_are_measured_once_and_reported_twice(result: Result) -> None:
    assert result.metrics["same_model"] is True
    assert result.metrics["loaded"] == result.metrics["pretrained"]
    for scores in result.metrics["prompting"].values():
        assert scores["loaded"] == scores["pretrained"]
    samples = json.loads((result.out / "samples.json").read_text())
    assert all(sample["models"] == ["pretrained", "loaded"] for sample in samples)


def test_different_models_are_measured_each(world: World, result: Result, tmp_path: Path) -> None:
    metrics = world.run(tmp_path / "out", loaded=world.root / "other")
    assert metrics["same_model"] is False
    assert metrics["pretrained"] == result.metrics["pretrained"]
    assert metrics["loaded"]["nats_per_token"] == pytest.approx(math.log(320), abs=0.2)  # untrained: knows nothing
    models = [sample["models"] for sample in json.loads((tmp_path / "out" / "samples.json").read_text())]
    assert models == [["pretrained"]] * 4 + [["loaded"]] * 4
    with open(tmp_path / "out" / "prompting.csv", newline="") as file:
        rows = [(row["task"], row["model"], row["shots"]) for row in csv.DictReader(file)]
    assert len(set(rows)) == len(rows) == 2 * 2 * 2


def test_it_tells_what_it_measures(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = replace(CONFIG, shots=[0], tasks=["instruction"])
    world.run(tmp_path / "evaluation", cfg, loaded=world.root / "other")
    told = filter(None, map(str.strip, capsys.readouterr().err.splitlines()))
    lines = [re.sub(r" in \d\d:\d\d(, now)?", "", line) for line in told]
    assert lines[1:] == [
        "evaluate: 0 of 7 measured n-grams and compressors",
        "evaluate: 1 of 7 measured bits/byte of pretrained",
        "evaluate: 2 of 7 measured bits/byte of loaded",
        "evaluate: 3 of 7 measured samples of pretrained",
        "evaluate: 4 of 7 measured samples of loaded",
        "evaluate: 5 of 7 measured instruction by pretrained, 0 examples shown",
        "evaluate: 6 of 7 measured instruction by loaded, 0 examples shown",
        "evaluate: 7 of 7 measured",
    ]


def test_what_is_killed_goes_on_after_what_it_had_measured(
    world: World, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    solve = prompting.solve

    def killed(*given: Any, **named: Any) -> prompting.Solved:
        asked.append(given[3])
        if len(asked) == 3:  # of four: two tasks, with 0 and with 2 examples shown
            raise KeyboardInterrupt
        return solve(*given, **named)

    monkeypatch.setattr(prompting, "solve", killed)
    with pytest.raises(KeyboardInterrupt):
        world.run(tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()
    monkeypatch.setattr(held_out, "language", None)
    assert world.run(tmp_path / "evaluation") == result.metrics
    assert asked == [0, 2, 0, 0, 2]
    assert open_verified(tmp_path / "evaluation").content_hash == open_verified(result.out).content_hash


def test_what_was_kept_and_is_damaged_is_measured_again(world: World, result: Result, tmp_path: Path) -> None:
    world.run(tmp_path / "evaluation")
    files = list(tmp_path.glob("data/.scratch/evaluate/*/*/found.json"))
    assert len(files) == 1 + 2 + 2 * 2  # n-grams; bits/byte and samples; two tasks with 0 and with 2 examples shown
    for kept in files:
        kept.write_bytes(b"[]")
    assert world.run(tmp_path / "evaluation") == result.metrics


def test_equal_weights_with_other_heads_are_another_model(world: World, tmp_path: Path) -> None:
    model = load_model(world.root / "pretrained")
    more_heads = GPT(replace(model.config, n_head=4))
    more_heads.load_state_dict(model.state_dict())
    save(tmp_path / "heads", more_heads, Tokenizer.load(world.root / "pretrained"))
    metrics = world.run(tmp_path / "out", loaded=tmp_path / "heads")
    assert metrics["same_model"] is False
    assert metrics["loaded"] != metrics["pretrained"]


def test_another_vocabulary_reads_the_same_bytes(world: World, result: Result, tmp_path: Path) -> None:
    """A model of bytes: uniform over its 257 ids it needs log2(257) bits for each."""
    vocabulary = BytePairs.train([], 257)
    model = GPT(config_of(vocabulary))
    torch.nn.init.zeros_(model.token_embedding.weight)
    save(tmp_path / "bytes", model, vocabulary)
    scores = world.run(tmp_path / "out", loaded=tmp_path / "bytes")["loaded"]
    assert scores["tokens"] == result.metrics["test_bytes"]
    assert scores["bits_per_byte"] == pytest.approx(math.log2(257), abs=1e-4)


# --- what is written --------------------------------------------------------------------------------------


def test_a_second_run_writes_the_same_bytes(world: World, result: Result, tmp_path: Path) -> None:
    metrics = world.run(tmp_path / "again")
    assert metrics == result.metrics
    first, second = (open_verified(out, "evaluation") for out in (result.out, tmp_path / "again"))
    assert first.files == second.files
    assert first.content_hash == second.content_hash
    assert set(first.files) == {"samples.json", "samples.md", "baselines.csv", "prompting.csv", "bits_per_byte.png"}


def test_the_tables_hold_the_metrics(result: Result) -> None:
    metrics = result.metrics
    with open(result.out / "baselines.csv", newline="") as file:
        bars = {row["model"]: float(row["bits_per_byte"]) for row in csv.DictReader(file)}
    models = {name: metrics[name]["bits_per_byte"] for name in ("pretrained", "loaded")}
    assert bars == metrics["baselines"] | models
    with open(result.out / "prompting.csv", newline="") as file:
        for row in csv.DictReader(file):
            scores = metrics["prompting"][row["task"]]
            assert float(row["accuracy"]) == scores[row["model"]][f"shots_{row['shots']}"]
            assert int(row["examples"]) == scores["examples"]
            assert 0 <= float(row["mean_shots"]) <= int(row["shots"])


def test_the_view_shows_the_metrics(result: Result) -> None:
    assert json.loads(json.dumps(result.view))["title"] == "Evaluation"
    (headline,) = result.view["headlines"]
    assert headline["value"] == result.metrics["pretrained"]["bits_per_byte"]
    bars = {
        value: ours for block in result.view["blocks"] if block["kind"] == "bars" for _, value, ours in block["bars"]
    }
    assert set(bars) == {*result.metrics["baselines"].values(), headline["value"]}
    assert [value for value, ours in bars.items() if ours] == [headline["value"]]
    samples = json.loads((result.out / "samples.json").read_text())
    (texts,) = [block["items"] for block in result.view["blocks"] if block["kind"] == "texts"]
    assert [(prompt, text) for _, prompt, text in texts] == [(s["prompt"], s["text"]) for s in samples]
    tables = [block for block in result.view["blocks"] if block["kind"] == "table"]
    for table, scores in zip(tables, result.metrics["prompting"].values(), strict=True):
        assert table["rows"][0][1:] == list(scores["pretrained"].values())


def test_the_manifest_names_every_input(world: World, result: Result) -> None:
    inputs = open_verified(result.out, "evaluation").inputs
    for name in ("pretrained", "loaded", "tokens", "tokenizer", "raw"):
        assert inputs.pop(name) == open_verified(world.root / name).content_hash
    assert inputs == {"instructions": hashlib.sha256((world.root / "instructions.jsonl").read_bytes()).hexdigest()}


def test_the_tracker_gets_pictures_and_tables(result: Result) -> None:
    assert result.shelf.artifacts == {
        f"evaluation/{name}": (result.out / name).read_bytes()
        for name in ("bits_per_byte.png", "samples.md", "prompting.csv")
    }
    assert result.shelf.artifacts["evaluation/bits_per_byte.png"].startswith(b"\x89PNG")


def test_a_users_matplotlib_settings_change_nothing(world: World, result: Result, tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        world.run(tmp_path / "out")
        assert matplotlib.rcParams["font.size"] == 30
    picture = "bits_per_byte.png"
    assert (tmp_path / "out" / picture).read_bytes() == (result.out / picture).read_bytes()


# --- what is refused --------------------------------------------------------------------------------------


def test_tokens_of_another_vocabulary_are_refused(world: World, tmp_path: Path) -> None:
    tokenizer(world.root / "raw", tmp_path / "larger", TokenizerConfig("bpe", 330), SPLIT, CLEAN)
    tokenize(world.root / "raw", tmp_path / "larger", tmp_path / "tokens", SPLIT, CLEAN)
    with pytest.raises(DataError, match=r"document tales/\d+: .*another vocabulary"):
        world.run(tmp_path / "out", tokens=tmp_path / "tokens")
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_larger_than_the_model_is_refused(world: World, tmp_path: Path) -> None:
    small = GPTConfig(vocab_size=300, context_length=CONTEXT, d_model=32, n_layer=1, n_head=2)
    save(tmp_path / "small", GPT(small), Tokenizer.load(world.root / "tokenizer"))
    with pytest.raises(DataError, match=r"small: expected a vocabulary of at most the model's 300 ids, found \d+"):
        world.run(tmp_path / "out", loaded=tmp_path / "small")


def test_a_damaged_model_is_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.root / "loaded", tmp_path / "loaded")
    weights = tmp_path / "loaded" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match=r"model\.safetensors: damaged"):
        world.run(tmp_path / "out", loaded=tmp_path / "loaded")


def test_a_stride_that_skips_text_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"evaluate\.stride = 65: above the 64 tokens that .*sees at once"):
        world.run(tmp_path / "out", cfg=replace(CONFIG, stride=65))
    with pytest.raises(ParameterError, match=r"evaluate\.stride = 33: above the 32 tokens that .*sees at once"):
        world.run(tmp_path / "out", cfg=replace(CONFIG, stride=33, context=32))


@pytest.mark.parametrize("name", ["batch_windows", "max_new_tokens", "prompt_examples", "prompt_examples_per_kind"])
def test_amounts_are_at_least_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} = 0: expected"):
        replace(CONFIG, **{name: 0})


def test_all_problems_are_told_at_once() -> None:
    bad = {"stride": -1, "prompts": [], "temperatures": [0.5, -1.0], "shots": [1, 1]}
    with pytest.raises(ValueError) as caught:
        replace(CONFIG, **bad)
    assert str(caught.value).count("; ") == 3
    assert all(f"{name} = {value}" in str(caught.value) for name, value in bad.items())


def test_an_unknown_task_is_told_beside_those_there_are() -> None:
    with pytest.raises(ValueError, match="tasks: expected some of classification, instruction, found 'translation'"):
        replace(CONFIG, tasks=["instruction", "translation"])


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_temperature_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="temperatures"):
        replace(CONFIG, temperatures=[value])

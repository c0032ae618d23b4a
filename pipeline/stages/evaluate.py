"""How good the models are, on text they have not seen and on tasks they were not tuned for.

Two models are measured side by side: the one trained here and the one loaded as the foundation of
fine-tuning.  By default they are the same; then everything is computed once and reported for both.

    held-out text   bits/byte of the test documents, beside n-gram models and compressors on the same bytes
    samples         what a model writes after some prompts
    prompting       accuracy with 0, 1, … solved examples in the prompt (`prompting.py`)

The text is decoded from ``data/tokens``, checked against each document's sha256 and encoded anew with each
model's own vocabulary: bits/byte compares models of different vocabularies only on the same bytes.

Samples are computed in float32, one by one, each from a seed of its own: a prompt added or removed leaves
the others as they are.  With the default parameters the stage takes 15 s of one core.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from gptcore import runtime
from gptcore.artifact import Manifest, commit, open_verified, read_manifest, sha256_file, sha256_text, write_json
from gptcore.errors import DataError, ParameterError
from gptcore.evaluate import bits_per_byte, document_nats, perplexity
from gptcore.generate import generate
from gptcore.gpt2 import WEIGHTS_FILE, load_gpt2
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from pipeline import corpus, prompting
from pipeline.artifacts import CHECKPOINT, TokenDocument, read_tokens
from pipeline.baselines import gzip_bits_per_byte, kneser_ney_nats, xz_bits_per_byte
from pipeline.instruction_data import read_instructions
from pipeline.prompting import Problem
from pipeline.tracking import Tracker

KIND = "evaluation"
NGRAM_ORDERS = (1, 2, 3, 5)
DECIMALS = 4


@dataclass(frozen=True)
class EvaluateConfig:
    """How to measure, and on how much."""

    stride: int
    """Tokens from one window of the held-out text to the next; 0: half the model's context."""
    batch_windows: int
    """Windows, or prompts, in one forward pass."""
    prompts: list[str]
    """What the samples continue; an empty one begins a new document."""
    temperatures: list[float]
    """Of the samples; 0 takes the likeliest token every time."""
    max_new_tokens: int
    """Tokens of a sample, at most."""
    shots: list[int]
    """Numbers of solved examples in a prompt."""
    prompt_examples: int
    """Test documents to classify by prompting, at most."""
    prompt_examples_per_kind: int
    """Test instructions of each kind to answer by prompting, at most."""
    seed: int
    """Of the samples and of the draw of examples."""

    def __post_init__(self) -> None:
        if problems := "; ".join(self._problems()):
            raise ValueError(problems)

    def _problems(self) -> Iterator[str]:
        for name in ("batch_windows", "max_new_tokens", "prompt_examples", "prompt_examples_per_kind"):
            if (value := getattr(self, name)) < 1:
                yield f"{name} = {value}: expected a whole number of at least 1"
        if self.stride < 0:
            yield f"stride = {self.stride}: expected a number of tokens, or 0 for half the context"
        for name in ("prompts", "temperatures", "shots"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                yield f"{name} = {values}: expected at least one, and no two that are equal"
        for name in ("temperatures", "shots"):
            values = getattr(self, name)
            if not all(0 <= value < math.inf for value in values):
                yield f"{name} = {values}: expected finite numbers of at least 0"


@dataclass(frozen=True)
class Contender:
    """A model under every name that it has in the results."""

    names: tuple[str, ...]
    model: GPT
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Split:
    """A part of the corpus."""

    texts: list[str]
    ids: list[np.ndarray]
    """The same documents in the corpus's own vocabulary."""
    tokenizer: Tokenizer
    """That vocabulary."""

    @cached_property
    def content(self) -> bytes:
        """All documents, one after the other."""
        return "".join(self.texts).encode("utf-8")


@dataclass(frozen=True)
class Task:
    """Problems to solve by prompting."""

    problems: list[Problem]
    per_token: bool
    """Whether answers are compared by their nats/token, for their lengths differ by more than their likelihood."""
    without_model: dict[str, float]
    """Accuracy of an answer that ignores the question."""


def evaluate(
    pretrained: Path,
    loaded: Path,
    tokens: Path,
    tokenizer: Path,
    raw: Path,
    instructions: Path,
    out: Path,
    cfg: EvaluateConfig,
    tracker: Tracker,
) -> dict[str, Any]:
    runtime.configure()
    tasks = _tasks(raw, instructions, cfg)
    train, test = _read_split(tokens, tokenizer, "train"), _read_split(tokens, tokenizer, "test")
    models = {"pretrained": open_verified(pretrained, CHECKPOINT), "loaded": open_verified(loaded, CHECKPOINT)}
    contenders = _contenders(models, cfg)

    baselines = _compressors(train, test) | _ngrams(train, test)
    language: dict[str, dict[str, Any]] = {}
    for contender in contenders:
        language |= dict.fromkeys(contender.names, _language(contender, test, cfg))
    samples = [sample for contender in contenders for sample in _samples(contender, cfg)]
    answers = [answer for contender in contenders for answer in _answers(contender, tasks, cfg)]

    others = {"tokens": tokens, "tokenizer": tokenizer, "raw": raw}  # verified above, by what read them
    inputs = {name: manifest.content_hash for name, manifest in models.items()}
    inputs |= {name: read_manifest(path).content_hash for name, path in others.items()}
    inputs["instructions"] = sha256_file(instructions)
    with commit(out, kind=KIND, config=asdict(cfg), inputs=inputs) as draft:
        bars = baselines | {name: scores["bits_per_byte"] for name, scores in language.items()}
        _write_csv(draft / "baselines.csv", [{"model": name, "bits_per_byte": bits} for name, bits in bars.items()])
        _draw_bars(draft / "bits_per_byte.png", bars)
        _write_csv(draft / "prompting.csv", answers)
        write_json(draft / "samples.json", samples)
        (draft / "samples.md").write_text(_markdown(samples, cfg), encoding="utf-8")
    for name in ("bits_per_byte.png", "samples.md", "prompting.csv"):
        tracker.artifact(out / name, f"evaluation/{name}")
    return {
        "test_bytes": len(test.content),
        "baselines": baselines,
        **language,
        "same_model": len(contenders) == 1,
        "prompting": {name: _accuracies(name, task, answers) for name, task in tasks.items()},
    }


# --- what is measured, and on what ------------------------------------------------------------------------


def _contenders(models: Mapping[str, Manifest], cfg: EvaluateConfig) -> list[Contender]:
    """The different ones among the models, each under all its names."""
    found: dict[tuple[Any, ...], Contender] = {}
    for name, manifest in models.items():
        contender = _contender(name, manifest.directory, cfg)
        weights = manifest.files[WEIGHTS_FILE]["sha256"]
        key = (weights, contender.model.config, contender.tokenizer.fingerprint)
        names = found[key].names if key in found else ()
        found[key] = Contender((*names, name), contender.model, contender.tokenizer)
    return list(found.values())


def _contender(name: str, directory: Path, cfg: EvaluateConfig) -> Contender:
    model, tokenizer = load_gpt2(directory), Tokenizer.load(directory)
    if tokenizer.n_vocab > model.config.vocab_size:
        raise DataError(
            f"{directory}: expected a vocabulary of at most the model's {model.config.vocab_size} ids, found "
            f"{tokenizer.n_vocab}; run the stage that makes it again"
        )
    if cfg.stride > model.config.context_length:
        raise ParameterError(
            f"evaluate.stride = {cfg.stride}: above the context of {model.config.context_length} tokens of "
            f"{directory} it would skip text; set it to at most that, or to 0 for half the context"
        )
    return Contender((name,), model, tokenizer)


def _read_split(tokens: Path, tokenizer: Path, name: str) -> Split:
    open_verified(tokenizer, "tokenizer")
    vocabulary = Tokenizer.load(tokenizer)
    documents = read_tokens(tokens, name)
    return Split([_text(document, vocabulary) for document in documents], [d.ids for d in documents], vocabulary)


def _text(document: TokenDocument, tokenizer: Tokenizer) -> str:
    """The document's text, which is exactly what was tokenized."""
    try:
        text = tokenizer.decode_bytes(document.ids.tolist()).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        text = ""
    if sha256_text(text) != document.sha256:
        raise DataError(
            f"document {document.doc_id}: its tokens don't decode to the text they were made from, so they were made "
            "with another vocabulary; run the stage `tokenize` again"
        )
    return text


def _tasks(raw: Path, instructions: Path, cfg: EvaluateConfig) -> dict[str, Task]:
    documents = {split: corpus.read_labelled(raw, split) for split in ("train", "test")}
    entries = {split: read_instructions(instructions, split) for split in ("train", "test")}
    shots = max(cfg.shots)
    classification = prompting.classification_problems(
        documents["train"],
        documents["test"],
        corpus.read_labels(raw),
        count=cfg.prompt_examples,
        shots=shots,
        seed=cfg.seed,
    )
    instruction = prompting.instruction_problems(
        entries["train"], entries["test"], per_kind=cfg.prompt_examples_per_kind, shots=shots, seed=cfg.seed
    )
    majority = prompting.majority_accuracy([document.label for document in documents["train"]], classification)
    return {
        "classification": Task(classification, False, {"majority": _rounded(majority)}),
        "instruction": Task(instruction, True, {"chance": _rounded(prompting.chance(instruction))}),
    }


# --- the measurements -------------------------------------------------------------------------------------


def _compressors(train: Split, test: Split) -> dict[str, float]:
    return {
        "gzip": _rounded(gzip_bits_per_byte(train.content, test.content)),
        "xz": _rounded(xz_bits_per_byte(train.content, test.content)),
    }


def _ngrams(train: Split, test: Split) -> dict[str, float]:
    scores = {}
    for order in NGRAM_ORDERS:
        nats = kneser_ney_nats(train.ids, test.ids, order, test.tokenizer.n_vocab, test.tokenizer.eot)
        scores[f"kneser_ney_{order}"] = _rounded(bits_per_byte(nats, len(test.content)))
    return scores


def _language(contender: Contender, test: Split, cfg: EvaluateConfig) -> dict[str, Any]:
    documents = [contender.tokenizer.encode_to_numpy(text) for text in test.texts]
    n_tokens = sum(map(len, documents))
    nats = document_nats(
        contender.model,
        documents,
        contender.tokenizer.eot,
        stride=cfg.stride or None,
        batch_windows=cfg.batch_windows,
        dtype="auto",
    )
    return {
        "bits_per_byte": _rounded(bits_per_byte(nats, len(test.content))),
        "nats_per_token": _rounded(nats / n_tokens),
        "perplexity": _rounded(perplexity(nats, n_tokens)),
        "tokens": n_tokens,
    }


def _samples(contender: Contender, cfg: EvaluateConfig) -> Iterator[dict[str, Any]]:
    for prompt in cfg.prompts:
        for temperature in cfg.temperatures:
            text = _continuation(contender, prompt, temperature, cfg)
            yield {"models": contender.names, "prompt": prompt, "temperature": temperature, "text": text}


def _continuation(contender: Contender, prompt: str, temperature: float, cfg: EvaluateConfig) -> str:
    tokenizer = contender.tokenizer
    ids = torch.tensor([[tokenizer.eot, *tokenizer.encode(prompt)]])
    seed = int(sha256_text(f"{cfg.seed}/{prompt}")[:8], 16)  # one seed for all makes their ends alike
    written = generate(contender.model, ids, cfg.max_new_tokens, temperature=temperature, stop=tokenizer.eot, seed=seed)
    new = written[0, ids.shape[1] :].tolist()
    return tokenizer.decode(token for token in new if token < tokenizer.eot)  # some models have ids without a text


def _answers(contender: Contender, tasks: Mapping[str, Task], cfg: EvaluateConfig) -> Iterator[dict[str, Any]]:
    """A row a task, number of shots and name of the model."""
    for task_name, task in tasks.items():
        for shots in cfg.shots:
            score = prompting.score(
                contender.model,
                contender.tokenizer,
                task.problems,
                shots,
                per_token=task.per_token,
                batch_size=cfg.batch_windows,
            )
            for name in contender.names:
                yield {
                    "task": task_name,
                    "model": name,
                    "shots": shots,
                    "accuracy": _rounded(score.accuracy),
                    "mean_shots": _rounded(score.mean_shots),
                    "examples": len(task.problems),
                }


def _accuracies(task_name: str, task: Task, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    accuracies: dict[str, Any] = {"examples": len(task.problems), **task.without_model}
    for row in answers:
        if row["task"] == task_name:
            accuracies.setdefault(row["model"], {})[f"shots_{row['shots']}"] = row["accuracy"]
    return accuracies


def _rounded(value: float) -> float:
    return round(value, DECIMALS)


# --- what is written --------------------------------------------------------------------------------------


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def _markdown(samples: Sequence[Mapping[str, Any]], cfg: EvaluateConfig) -> str:
    """The samples as indented blocks, in which no character of a text has a meaning."""
    parts = [f"# Samples\n\nUp to {cfg.max_new_tokens} tokens after each prompt, seed {cfg.seed}.\n"]
    for sample in samples:
        parts.append(f"\n## {' = '.join(sample['models'])}, temperature {sample['temperature']}\n\n")
        parts += [f"    {line}\n" for line in (sample["prompt"] + sample["text"]).splitlines() or [""]]
    return "".join(parts)


def _draw_bars(path: Path, bits: Mapping[str, float]) -> None:
    """The same picture on every machine: matplotlib's own defaults and fonts, no version in the file."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(7, 0.6 + 0.35 * len(bits)), dpi=120, layout="constrained")
        axes = figure.subplots()
        colours = ["tab:blue" if name in ("pretrained", "loaded") else "tab:gray" for name in bits]
        bars = axes.barh(list(bits), list(bits.values()), color=colours)
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.margins(x=0.1)
        axes.invert_yaxis()
        axes.set_xlabel("bits/byte of the held-out text; less is better")
        figure.savefig(path, metadata={"Software": None})

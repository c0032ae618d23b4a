"""The foundation, taught to label texts.

Reads ``data/checkpoints/load_gpt2`` and the labelled sources; writes a checkpoint in the layout of
``GPT2ForSequenceClassification`` (last token, linear head without bias), the curve, and the test
documents' actual and predicted labels.  Where the data have no validation documents of their own, a share of the
training documents, chosen by hash, is kept for that; the test split is looked at once, at the end.  Batches hold
documents of similar length, so that little is padding.

Beside it stand TF-IDF with a linear support-vector machine on the same documents, which is hard to beat on this task,
which gets the same few where a few of each label are all that may be learned from; and the label that most training
documents have, for all.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gptcore import runtime
from gptcore.adapters import peft_layout
from gptcore.adapters.kept import kept
from gptcore.adapters.lora import attach
from gptcore.artifact import write_json
from gptcore.errors import DataError, ParameterError
from gptcore.evaluate import accuracy, labels_of
from gptcore.formats.directory import gpt_config, save_model
from gptcore.model import Classifier
from gptcore.objectives.classification import Classification
from gptcore.tokenizer import Tokenizer
from pipeline.contract.stage import In, Out
from pipeline.corpus.document import LabelledDocument
from pipeline.corpus.splits import place_of
from pipeline.settings.finetune_classify import FinetuneClassifyConfig
from pipeline.store.checkpoint import About, Checkpoint
from pipeline.store.plain import as_plain, write_csv
from pipeline.store.view import Headline, Matrix, Outcome, Texts, View
from pipeline.tasks.baselines.texts import tfidf_linear
from pipeline.tasks.problems import draw
from pipeline.tasks.sets import TaskData
from pipeline.tasks.sets.classification import TASK
from pipeline.tracking.progress import classifying
from pipeline.tracking.tracker import Tracker
from pipeline.training import run as training
from pipeline.training.curve import shown, write_curve

NAME = __name__.rpartition(".")[2]
WORST_MISTAKES, SHOWN_MISTAKES, SHOWN_CHARACTERS = 20, 6, 600


def finetune_classify(
    foundation: In, raw: In, out: Out, curve: Out, confusion: Out, cfg: FinetuneClassifyConfig, tracker: Tracker
) -> Outcome:
    runtime.configure()
    start, task = Checkpoint.open(foundation), TASK(TaskData(raw=raw, instructions=Path()))
    inputs = {"foundation": start.content_hash, "raw": task.raw.content_hash}
    labels, test = list(task.labels), task.examples("test")
    train, val = _hold_out(task.examples("train"), task.examples("val"), cfg.val_fraction)
    known = train + val
    frequent = Counter(d.label for d in known).most_common(1)[0][0]
    if cfg.documents_per_label:
        train = known = _few(train, labels, cfg)
    encoder = start.tokenizer
    _check_fits(cfg.max_tokens, foundation)
    torch.manual_seed(cfg.seed)
    model = Classifier(start.load_language_model(), labels, pad_id=encoder.eot)
    adapter = attach(model, cfg.adapter, cfg.seed, f"{NAME}.adapter")
    encoded = {name: _encode(encoder, docs, cfg) for name, docs in (("train", train), ("val", val), ("test", test))}
    targets = [labels.index(d.label) for d in train]
    objective = Classification(
        encoded["train"], targets, cfg.batch_documents, encoder.eot, cfg.seed, cfg.target_replication
    )
    trained = training.run(
        __name__,
        model,
        kept(objective, encoded["train"], model, cfg.adapter, cfg.dtype, encoder.eot, f"{NAME}.adapter"),
        cfg,
        training.Cadence(cfg.eval_every, cfg.save_every),
        evaluate=lambda: {
            "val_accuracy": accuracy(labels_of(model, encoded["val"], dtype=cfg.dtype)[0], [d.label for d in val])
        },
        identity={"config": as_plain(cfg), "inputs": inputs},
        tracker=tracker,
        name_of=lambda row: f"document {train[row].source}/{train[row].index}",
    )
    adapter.merge()
    with classifying(NAME, len(test)) as bar:
        predicted, confidence = labels_of(model, encoded["test"], dtype=cfg.dtype, watch=bar.update)
    baseline = tfidf_linear([d.text for d in known], [d.label for d in known], [d.text for d in test])
    write_curve(curve, trained.curve)
    pairs = [(d.label, p) for d, p in zip(test, predicted, strict=True)]
    write_csv(confusion, ["actual", "predicted"], ({"actual": a, "predicted": p} for a, p in pairs))
    beside = {f"baseline_{measure}": value for measure, value in task.score(baseline, test).items()}
    metrics = {
        **task.score(predicted, test),
        "val_accuracy": round(trained.last("val_accuracy"), 4),
        **beside,
        "majority_accuracy": task.score([frequent] * len(test), test)["accuracy"],
        "train_loss": round(trained.mean_loss(), 6),
        "train_documents": len(train),
        "val_documents": len(val),
        "test_documents": len(test),
        "documents_at_max_tokens": sum(len(row) == cfg.max_tokens for row in encoded["test"]),
    }
    card = {
        "stage": NAME,
        "about": as_plain(_about(labels, cfg)),
        NAME: as_plain(cfg),
        "sources": task.raw.described("classification") | start.sources,
        "metrics": metrics,
    }
    mistakes = _worst_mistakes(test, predicted, confidence)
    with Checkpoint.create(out, card, inputs) as draft:
        save_model(model, draft, encoder)
        peft_layout.save(adapter, draft / "adapter")
        write_json(draft / "mistakes.json", mistakes)
    view = _view(metrics, labels, pairs, mistakes, curve)
    return Outcome(metrics, view, [curve, confusion, out / "mistakes.json"])


def _check_fits(max_tokens: int, foundation: Path) -> None:
    context = gpt_config(foundation).context_length
    if max_tokens > context:
        raise ParameterError(
            f"{NAME}.max_tokens = {max_tokens}: the foundation in {foundation} sees {context} tokens; "
            "set it to at most that in params.yaml"
        )


def _hold_out(
    documents: list[LabelledDocument], val: list[LabelledDocument], fraction: float
) -> tuple[list[LabelledDocument], list[LabelledDocument]]:
    """(train, val); where no ``val`` is given, by the hash of the text: equal texts stay together."""
    train = documents if val else [d for d in documents if place_of(d.text) >= fraction]
    val = val or [d for d in documents if place_of(d.text) < fraction]
    if not val or len({d.label for d in train}) < 2:
        raise DataError(
            f"labelled sources: expected training documents of two labels or more and some for validation, found "
            f"{len(train)} and {len(val)}; add documents, or change {NAME}.val_fraction"
        )
    return train, val


def _few(
    documents: Sequence[LabelledDocument], labels: Sequence[str], cfg: FinetuneClassifyConfig
) -> list[LabelledDocument]:
    """So many documents of each label, or all that it has."""
    of_each = ([d for d in documents if d.label == label] for label in labels)
    return [d for own in of_each for d in draw(own, cfg.documents_per_label, cfg.seed, NAME)]


def _encode(encoder: Tokenizer, documents: Sequence[LabelledDocument], cfg: FinetuneClassifyConfig) -> list[list[int]]:
    return [[*encoder.before, *encoder.encode(d.text)][: cfg.max_tokens] for d in documents]


def _worst_mistakes(
    test: Sequence[LabelledDocument], predicted: Sequence[str], confidence: Sequence[float]
) -> list[dict[str, Any]]:
    """The wrong answers the model was surest of."""
    wrong: list[dict[str, Any]] = [
        {"text": d.text[:500], "actual": d.label, "predicted": p, "confidence": round(c, 4)}
        for d, p, c in zip(test, predicted, confidence, strict=True)
        if p != d.label
    ]
    return sorted(wrong, key=lambda mistake: -mistake["confidence"])[:WORST_MISTAKES]


def _about(labels: list[str], cfg: FinetuneClassifyConfig) -> About:
    return About(
        title="{} text classifier",
        summary=f"Labels a text as one of {len(labels)} classes ({', '.join(labels)}).",
        tag="finetune-classify",
        command='python -m gptcore classify {} "The bank raised its prime rate to 8.5 pct."',
        example="""\
from transformers import pipeline

classify = pipeline("text-classification", model=".", truncation=True)
print(classify("The bank raised its prime rate to 8.5 pct."))""",
        longest=cfg.max_tokens,
        limitations=[
            "Every text gets one of the labels, whether or not one fits, and the probabilities are not calibrated.",
            "Long texts are cut where its tuning cut them (`model_max_length`); `truncation=True` does so in "
            "`transformers`.",
        ],
    )


def _view(
    metrics: dict[str, Any],
    labels: list[str],
    pairs: list[tuple[str, str]],
    mistakes: list[dict[str, Any]],
    curve: Path,
) -> View:
    result = Headline(
        "classification",
        metrics["accuracy"],
        "accuracy",
        f"macro-F1 {metrics['macro_f1']:.3f}; TF-IDF + linear SVM {metrics['baseline_accuracy']:.1%}, always the most "
        f"frequent label {metrics['majority_accuracy']:.1%}",
        f"Share of the {metrics['test_documents']:,} test documents that get their label.",
        "percent",
    )
    counts = Counter(pairs)
    matrix = Matrix(
        "Test documents by actual label (rows) and by prediction",
        labels,
        [[counts[actual, predicted] for predicted in labels] for actual in labels],
    )
    worst = [
        ([f"{m['predicted']} for {m['actual']}", f"{m['confidence']:.0%} sure"], "", m["text"][:SHOWN_CHARACTERS])
        for m in mistakes[:SHOWN_MISTAKES]
    ]
    curves = shown(curve, {"val_accuracy": "share of documents"}, "nats/document")
    return View("Classification", [result], [*curves, matrix, Texts("The mistakes it was surest of", worst)])

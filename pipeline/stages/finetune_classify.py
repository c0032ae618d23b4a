"""The foundation, taught to label texts: Reuters-21578 R8 with its published split.

Reads ``data/checkpoints/load_gpt2`` and the labelled sources; writes a checkpoint in the layout of
``GPT2ForSequenceClassification`` (last token, linear head without bias), the curve, and the test
documents' actual and predicted labels.  A share of the training documents, chosen by hash, is kept for
validation; the test split is looked at once, at the end.  Batches hold documents of similar length, so
that little is padding.

The baseline beside it is TF-IDF with a linear support-vector machine on the same documents, which is hard
to beat on this task.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gptcore import runtime
from gptcore.artifact import commit, read_manifest, write_atomically, write_json
from gptcore.data import Batch
from gptcore.errors import ParameterError
from gptcore.evaluate import accuracy, macro_f1
from gptcore.finetune import Classifier, classification_loss, pad
from gptcore.gpt2 import gpt_config, load_gpt2, save_gpt2
from gptcore.tokenizer import Tokenizer
from gptcore.train import TrainConfig
from pipeline import training
from pipeline.artifacts import CHECKPOINT, as_plain, checkpoint_facts
from pipeline.baselines import tfidf_linear
from pipeline.batching import LengthBatches
from pipeline.corpus import LabelledDocument, describe_sources, read_labelled, read_labels
from pipeline.splits import text_hash
from pipeline.tracking import Tracker

WORST_MISTAKES = 20


@dataclass(frozen=True, kw_only=True)
class FinetuneClassifyConfig(TrainConfig):
    """`gptcore.train.TrainConfig` and what the stage adds."""

    batch_documents: int
    """Documents per batch."""
    max_tokens: int
    """Tokens of a document that are read; the rest is cut off."""
    val_fraction: float
    """Share of the published training split that is kept for validation."""
    eval_every: int
    """Steps between evaluations on the validation documents."""
    save_every: int
    """Steps between saved training states."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value}: expected a whole number of at least 1"
            for name in ("batch_documents", "max_tokens", "eval_every", "save_every")
            if (value := getattr(self, name)) < 1
        ]
        if not 0 < self.val_fraction < 0.5:
            problems.append(f"val_fraction = {self.val_fraction}: expected a share above 0 and below 0.5")
        if problems:
            raise ValueError("; ".join(problems))
        super().__post_init__()


def finetune_classify(
    foundation: Path,
    raw: Path,
    out: Path,
    curve: Path,
    confusion: Path,
    cfg: FinetuneClassifyConfig,
    tracker: Tracker,
) -> dict[str, Any]:
    runtime.configure()
    foundation_facts = checkpoint_facts(foundation)
    inputs = {"foundation": foundation_facts.content_hash, "raw": read_manifest(raw).content_hash}
    labels = list(read_labels(raw))
    test = read_labelled(raw, "test")
    train, val = _hold_out(read_labelled(raw, "train"), cfg.val_fraction)
    encoder = Tokenizer.load(foundation)
    _check_fits(cfg.max_tokens, foundation)
    encoded = {name: _encode(encoder, docs, cfg) for name, docs in (("train", train), ("val", val), ("test", test))}

    torch.manual_seed(cfg.seed)
    model = Classifier(load_gpt2(foundation), labels, pad_id=encoder.eot)
    targets = torch.tensor([labels.index(d.label) for d in train])
    batches = LengthBatches([len(row) for row in encoded["train"]], cfg.batch_documents, cfg.seed)

    def batches_from(step: int) -> Iterator[Batch]:
        for indices in batches.starting_at(step * cfg.accumulation_steps):
            yield pad([encoded["train"][i] for i in indices], encoder.eot), targets[indices]

    trained = training.run(
        "finetune_classify",
        model,
        batches_from,
        cfg,
        training.Cadence(cfg.eval_every, cfg.save_every),
        loss=classification_loss,
        evaluate=lambda: {"val_accuracy": accuracy(_predict(model, encoded["val"], cfg)[0], [d.label for d in val])},
        identity={"config": as_plain(cfg), "inputs": inputs},
        tracker=tracker,
    )
    predicted, confidence = _predict(model, encoded["test"], cfg)
    actual = [d.label for d in test]
    baseline = tfidf_linear([d.text for d in train + val], [d.label for d in train + val], [d.text for d in test])
    training.write_curve(curve, trained.curve)
    _write_confusion(confusion, actual, predicted)
    metrics = {
        "accuracy": round(accuracy(predicted, actual), 4),
        "macro_f1": round(macro_f1(predicted, actual, labels), 4),
        "val_accuracy": round(trained.last("val_accuracy"), 4),
        "baseline_accuracy": round(accuracy(baseline, actual), 4),
        "baseline_macro_f1": round(macro_f1(baseline, actual, labels), 4),
        "train_loss": round(trained.mean_loss(), 6),
        "train_documents": len(train),
        "val_documents": len(val),
        "test_documents": len(test),
        "documents_at_max_tokens": sum(len(row) == cfg.max_tokens for row in encoded["test"]),
    }
    card = {
        "stage": "finetune_classify",
        "finetune_classify": as_plain(cfg),
        "sources": describe_sources(raw, "classification") | foundation_facts.config.get("sources", {}),
        "metrics": metrics,
    }
    with commit(out, kind=CHECKPOINT, config=card, inputs=inputs) as draft:
        save_gpt2(model, draft, encoder)
        write_json(draft / "mistakes.json", _worst_mistakes(test, predicted, confidence))
    return metrics


def _check_fits(max_tokens: int, foundation: Path) -> None:
    context = gpt_config(foundation).context_length
    if max_tokens > context:
        raise ParameterError(
            f"finetune_classify.max_tokens = {max_tokens}: the foundation in {foundation} sees {context} tokens; "
            "set it to at most that in params.yaml"
        )


def _hold_out(
    documents: Sequence[LabelledDocument], fraction: float
) -> tuple[list[LabelledDocument], list[LabelledDocument]]:
    """(train, val), by the hash of the text: equal texts stay together."""
    is_val = [int(text_hash(d.text)[:12], 16) / 16**12 < fraction for d in documents]
    return (
        [d for d, held in zip(documents, is_val, strict=True) if not held],
        [d for d, held in zip(documents, is_val, strict=True) if held],
    )


def _encode(encoder: Tokenizer, documents: Sequence[LabelledDocument], cfg: FinetuneClassifyConfig) -> list[list[int]]:
    return [encoder.encode(d.text)[: cfg.max_tokens] for d in documents]


def _predict(
    model: Classifier, rows: Sequence[list[int]], cfg: FinetuneClassifyConfig
) -> tuple[list[str], list[float]]:
    """Labels and their probabilities, in the order of ``rows``."""
    labels, confidence = [""] * len(rows), [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    was_training = model.training
    model.eval()
    with torch.inference_mode(), runtime.autocast(cfg.dtype):
        for start in range(0, len(order), 64):
            chunk = order[start : start + 64]
            best = model(pad([rows[i] for i in chunk], model.pad_id)).float().softmax(dim=-1).max(dim=-1)
            for i, p, label in zip(chunk, best.values.tolist(), best.indices.tolist(), strict=True):
                labels[i], confidence[i] = model.labels[label], p
    model.train(was_training)
    return labels, confidence


def _write_confusion(path: Path, actual: Sequence[str], predicted: Sequence[str]) -> None:
    """One row a test document, as DVC's confusion template wants it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["actual", "predicted"])
    writer.writerows(zip(actual, predicted, strict=True))
    write_atomically(path, text.getvalue().encode())


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

"""What each section of the report shows: the stages' files → plain values for the template.

A section is a function of the project's files.  It returns what the template prints, or None if what it shows has
not been made yet.  Shapes of metrics are those that the stages return; a value that is missing is shown as
a dash.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gptcore.errors import DataError
from pipeline import charts, dag_chart
from pipeline.charts import Point, Series
from pipeline.numerals import duration, number, percent
from pipeline.report_files import Files

View = dict[str, Any]
CHECKPOINTS = ("pretrain", "finetune_classify", "finetune_instruct")
MISTAKES, ANSWERS_PER_KIND, TEXT_CHARACTERS = 6, 2, 600

_BASELINES = {
    "gzip": "gzip",
    "xz": "xz",
    "kneser_ney_1": "unigram",
    "kneser_ney_2": "bigram",
    "kneser_ney_3": "trigram",
    "kneser_ney_5": "5-gram",
}
_CURVES = {  # columns of a curve → title and unit of their chart
    ("loss", "val_loss"): ("loss", ""),
    ("val_accuracy",): ("accuracy", "share of documents"),
    ("learning_rate",): ("learning rate", ""),
    ("grad_norm",): ("gradient norm before clipping", ""),
}
_LOSS_UNITS = {"finetune_classify": "nats/document", "finetune_instruct": "nats/response token"}
CHARTS_PER_STAGE = 3
_LINE_NAMES = {
    "loss": "training, smoothed",
    "val_loss": "validation",
    "val_accuracy": "validation",
    "grad_norm": "smoothed",
}


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    name: str
    title: str
    stages: tuple[str, ...]
    """What to run if there is nothing to show."""
    build: Callable[[Files], View | None]

    def view(self, files: Files) -> View:
        """For the template: ``title``, ``stages`` and either ``content`` or ``problem``."""
        try:
            content, problem = self.build(files), ""
        except Exception as error:  # a foreign or half-written file must not hide the other sections
            content, problem = None, str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        return {"title": self.title, "stages": self.stages, "content": content, "problem": problem}


def headline(files: Files) -> View | None:
    """The numbers that a reader wants first, each with its definition and what it is to be compared with."""
    makers = (_language_card, _classes_card, _answers_card, _size_card, _time_card, _parity_card)
    cards = [card for make in makers for card in make(files)]
    return {"cards": cards} if cards else None


def graph(files: Files) -> View | None:
    boxes = [_box(stage, files) for stage in _stages(files)]
    if not boxes:
        return None
    return {"wide": dag_chart.draw(boxes, "dag-wide", False), "narrow": dag_chart.draw(boxes, "dag-narrow", True)}


def data(files: Files) -> View | None:
    download, tokens, windows = (files.metrics(name) for name in ("download", "tokenize", "windows"))
    if not any((download, tokens, windows)):
        return None
    configured = files.params.get("download", {}).get("sources", {})
    sources = [
        {"name": name, "licence": "the user's own text", **configured.get(name, {}), **facts}
        for name, facts in download.get("sources", {}).items()
    ]
    splits = [_split_row(name, tokens, windows) for name in ("train", "val", "test")]
    rest = [
        (f"{stage}: {name}", value)
        for stage, metrics in (
            ("tokenizer", files.metrics("tokenizer")),
            ("tokenize", tokens),
            ("windows", windows),
        )
        for name, value in _flat(_without(metrics, ("documents", "tokens", "windows", "bytes", "bytes_per_token")))
    ]
    return {"sources": sources, "splits": splits if tokens or windows else [], "rest": rest}


def curves(files: Files) -> View | None:
    found = {stage: list(_curve_charts(stage, files.csv(stage)))[:CHARTS_PER_STAGE] for stage in CHECKPOINTS}
    shown = {stage: drawn for stage, drawn in found.items() if drawn}
    return {"stages": shown, "pretrain": files.metrics("pretrain")} if shown else None


def language(files: Files) -> View | None:
    if not (metrics := files.metrics("evaluate")):
        return None
    bits = [(_BASELINES.get(name, name), value, False) for name, value in metrics.get("baselines", {}).items()]
    bits += [(name, scores.get("bits_per_byte"), True) for name, scores in _models(metrics)]
    measured = sorted((row for row in bits if row[1] is not None), key=lambda row: -row[1])
    widest = max((value for _, value, _ in measured), default=1)
    bars = [{"name": n, "value": v, "part": v / widest, "ours": ours} for n, v, ours in measured]
    return {"bars": bars, "models": _models(metrics), "test_bytes": metrics.get("test_bytes")}


def samples(files: Files) -> View | None:
    found = files.entries("evaluation", "samples.json")
    return {"samples": found} if found else None


def prompting(files: Files) -> View | None:
    tasks = files.metrics("evaluate").get("prompting", {})
    rows = [row for name, task in tasks.items() for row in _prompting_rows(name, task)]
    shots = sorted({key for row in rows for key in row["scores"]}, key=lambda key: int(key.rpartition("_")[2]))
    return {"rows": rows, "shots": shots} if rows else None


def classification(files: Files) -> View | None:
    metrics, pairs = files.metrics("finetune_classify"), files.csv("confusion")
    if not metrics and not pairs:
        return None
    mistakes = files.entries("checkpoints", "finetune_classify", "mistakes.json")
    return {
        "metrics": metrics,
        "matrix": _confusion(pairs),
        "mistakes": [{**m, "text": _cut(m.get("text", ""))} for m in mistakes[:MISTAKES]],
    }


def instructions(files: Files) -> View | None:
    if not (metrics := files.metrics("finetune_instruct")):
        return None
    kinds = [_kind(name, scores) for name, scores in metrics.get("kinds", {}).items()]
    kinds.sort(key=lambda kind: (-kind["bars"][0][1], kind["name"]))
    answers = files.entries("checkpoints", "finetune_instruct", "answers.json")
    return {"metrics": metrics, "kinds": kinds, "answers": _examples(answers)}


def exports(files: Files) -> View | None:
    rows = [
        {"name": name, "parity": parity, "metrics": metrics}
        for name in CHECKPOINTS
        for parity, metrics in [(files.facts("export", name, "parity.json"), files.metrics(f"export-{name}"))]
        if parity
    ]
    return {"exports": rows, "loaded": files.metrics("load_gpt2")} if rows else None


def reproduction(files: Files) -> View:
    """Always there: how to make all this, and what is known of how it was made."""
    records = [{"name": name, **_scalars(record)} for name, record in files.provenance.items()]
    records.sort(key=lambda record: str(record.get("started", "")))
    known = ("name", "stage", "started", "seconds", "fingerprint")
    columns = sorted({key for record in records for key in record} - set(known))
    return {"records": records, "columns": columns, "params": files.text("params.yaml"), "commit": files.commit}


SECTIONS = (
    Section("headline", "Results", ("everything",), headline),
    Section("graph", "Stages", (), graph),
    Section("data", "Data", ("download", "tokenize", "windows"), data),
    Section("curves", "Training", CHECKPOINTS, curves),
    Section("language", "Bits per byte", ("evaluate",), language),
    Section("samples", "Samples", ("evaluate",), samples),
    Section("prompting", "Prompting", ("evaluate",), prompting),
    Section("classification", "Classification", ("finetune_classify",), classification),
    Section("instructions", "Instructions", ("finetune_instruct",), instructions),
    Section("exports", "Exports", ("export",), exports),
    Section("reproduction", "Reproduce", (), reproduction),
)


# --- headline ---------------------------------------------------------------------------------------------


def _card(value: str, unit: str, against: str, definition: str, link: str) -> View:
    return {"value": value, "unit": unit, "against": against, "definition": definition, "link": link}


def _language_card(files: Files) -> Iterator[View]:
    metrics = files.metrics("evaluate")
    if not metrics:
        return
    baselines = metrics.get("baselines", {})
    families = [[name for name in baselines if name.startswith("kneser") is wanted] for wanted in (True, False)]
    best = [min(family, key=baselines.__getitem__) for family in families if family]
    against = " · ".join(f"{_BASELINES.get(name, name)} {baselines[name]:.3f}" for name in best)
    yield _card(
        number(metrics["pretrained"]["bits_per_byte"]),
        "bits/byte",
        against,
        f"−log₂ p of the held-out text, divided by its {number(metrics.get('test_bytes'))} bytes. Lower is better.",
        "language",
    )


def _classes_card(files: Files) -> Iterator[View]:
    if metrics := files.metrics("finetune_classify"):
        yield _card(
            percent(metrics["accuracy"]),
            "accuracy",
            f"TF-IDF + linear SVM {percent(metrics.get('baseline_accuracy'))}",
            f"Share of the {number(metrics.get('test_documents'))} test documents that get their label, "
            f"macro-F1 {number(metrics.get('macro_f1'))}.",
            "classification",
        )


def _answers_card(files: Files) -> Iterator[View]:
    if metrics := files.metrics("finetune_instruct"):
        ahead, kinds = metrics.get("kinds_above_nearest"), len(metrics.get("kinds", {}))
        untuned, nearest = (percent(metrics.get(name, {}).get("exact_match")) for name in ("untuned", "nearest"))
        yield _card(
            percent(metrics["exact_match"]),
            "exact match",
            f"nearest neighbour {nearest} · untuned {untuned}",
            f"Share of the test instructions answered to the letter; chrF {number(metrics.get('chrf'))}. Above both "
            f"others in {number(ahead)} of {kinds} kinds of tasks.",
            "instructions",
        )


def _size_card(files: Files) -> Iterator[View]:
    if metrics := files.metrics("pretrain"):
        yield _card(
            number(metrics["parameters"]),
            "parameters",
            f"validation loss {number(metrics.get('val_loss'))} nats/token",
            f"Trained from scratch in {number(metrics.get('steps'))} steps on "
            f"{number(metrics.get('tokens_seen'))} tokens, repetitions included.",
            "curves",
        )


def _parity_card(files: Files) -> Iterator[View]:
    proofs = [proof for name in CHECKPOINTS if (proof := files.facts("export", name, "parity.json"))]
    if proofs:
        worst = max((str(proof["max_logit_difference"]) for proof in proofs), key=_bound)
        readers = ", ".join(sorted({proof.get("against", "transformers") for proof in proofs}))
        yield _card(
            worst,
            "logit difference",
            f"{len(proofs)} of {len(CHECKPOINTS)} exports proven",
            f"Largest between an export read by {readers} in float32 and the model here. Token ids, greedy texts and "
            "labels agree.",
            "exports",
        )


def _time_card(files: Files) -> Iterator[View]:
    if records := files.provenance:
        pretrain = records.get("pretrain", {})
        speed = pretrain.get("tokens_per_second")
        where = f", on {number(pretrain.get('threads'))} threads of machine class {pretrain.get('machine_class')}"
        yield _card(
            duration(sum(record.get("seconds", 0) for record in records.values())),
            f"for {len(records)} stages",
            f"{number(speed)} tokens/s in pretraining" if speed else "",
            f"Sum of each stage's last run{where if pretrain else ''}.",
            "reproduction",
        )


def _bound(text: str) -> float:
    try:
        return float(text.lstrip("< "))
    except ValueError:
        return float("inf")


# --- graph ------------------------------------------------------------------------------------------------


def _stages(files: Files) -> list[tuple[str, str, tuple[str, ...]]]:
    """Name, description and upstream stages of each stage, as DVC resolves dvc.yaml."""
    if not (files.root / "dvc.yaml").is_file():
        return []
    from dvc.repo import Repo

    with Repo(str(files.root), uninitialized=True) as repo:
        graph = repo.index.graph
        stages = [stage for stage in graph.nodes if stage.cmd]
        return [
            (stage.name, stage.desc or "", tuple(sorted(above.name for above in graph.successors(stage) if above.cmd)))
            for stage in stages
        ]


def _box(stage: tuple[str, str, tuple[str, ...]], files: Files) -> dag_chart.Box:
    name, description, upstream = stage
    key = name.replace("@", "-")
    done = bool(files.metrics(key))
    seconds = files.provenance.get(key, {}).get("seconds")
    note = duration(seconds) if seconds is not None else "done" if done else "not run yet"
    return dag_chart.Box(name, upstream, (*name.split("@"), note), description, done)


# --- data -------------------------------------------------------------------------------------------------


def _split_row(split: str, tokens: Mapping[str, Any], windows: Mapping[str, Any]) -> View:
    columns = {"documents": tokens, "bytes": tokens, "tokens": tokens, "bytes_per_token": tokens, "windows": windows}
    return {"name": split} | {key: _of(metrics.get(key), split) for key, metrics in columns.items()}


def _of(values: Any, key: str) -> Any:
    return values.get(key) if isinstance(values, Mapping) else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values as (dotted name, value)."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _without(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}


# --- curves -----------------------------------------------------------------------------------------------


def _curve_charts(stage: str, rows: list[dict[str, str]]) -> Iterator[Markup]:
    for columns, (title, unit) in _CURVES.items():
        measured = {name: points for name in columns if (points := _points(rows, name))}
        if measured:
            series = [line for name, points in measured.items() for line in _lines(name, points)]
            unit = unit or (_LOSS_UNITS.get(stage, "nats/token") if "loss" in columns else "")
            yield charts.line_chart(title, series, "optimizer step", unit)


def _points(rows: list[dict[str, str]], column: str) -> list[Point]:
    return [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]


def _lines(name: str, points: list[Point]) -> Iterator[Series]:
    """A loss is noisy: drawn pale, with its running mean on top."""
    label = _LINE_NAMES.get(name, name.replace("_", " "))
    if name in ("loss", "grad_norm"):
        yield Series(name, charts.thinned(points), faint=True)
        yield Series(label, charts.thinned(charts.smoothed(points)))
    else:
        yield Series(label, charts.thinned(points), dots=name.startswith("val_"))


# --- evaluation -------------------------------------------------------------------------------------------


def _models(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The measured models under the names they are shown by; one entry where both are the same."""
    names = {"pretrained": "this GPT, pretrained"}
    if not metrics.get("same_model"):
        names["loaded"] = "this GPT, foundation"
    return [(shown, metrics[name]) for name, shown in names.items() if name in metrics]


def _prompting_rows(name: str, task: Mapping[str, Any]) -> Iterator[View]:
    without_model = " · ".join(f"{key} {percent(value)}" for key, value in task.items() if isinstance(value, float))
    models = {key: value for key, value in task.items() if isinstance(value, Mapping)}
    if len(models) == 2 and len({str(scores) for scores in models.values()}) == 1:
        models.pop("loaded", None)
    for model, scores in models.items():
        yield {
            "task": name,
            "model": model,
            "examples": task.get("examples"),
            "without_model": without_model,
            "scores": scores,
        }


# --- fine-tuning ------------------------------------------------------------------------------------------


def _confusion(pairs: list[dict[str, str]]) -> View | None:
    """Counts by actual (rows) and predicted label, each with its share of the row."""
    if not pairs:
        return None
    counts = Counter((pair["actual"], pair["predicted"]) for pair in pairs)
    labels = sorted({label for pair in counts for label in pair})
    totals = Counter(pair["actual"] for pair in pairs)
    rows = [
        {
            "label": actual,
            "total": totals[actual],
            "recall": counts[actual, actual] / totals[actual] if totals[actual] else None,
            "cells": [_cell(counts[actual, predicted], totals[actual], actual, predicted) for predicted in labels],
        }
        for actual in labels
    ]
    return {"labels": labels, "rows": rows}


def _cell(count: int, total: int, actual: str, predicted: str) -> View:
    share = count / total if total else 0.0
    return {"count": count, "shade": round(100 * share**0.5), "right": actual == predicted, "predicted": predicted}


def _kind(name: str, scores: Mapping[str, Any]) -> View:
    bars = [
        (label, scores.get(f"{prefix}exact_match") or 0.0, scores.get(f"{prefix}chrf")) for label, prefix in _CONTENDERS
    ]
    return {"name": name, "entries": scores.get("entries"), "bars": bars}


_CONTENDERS = (("tuned", ""), ("nearest neighbour", "nearest_"), ("untuned", "untuned_"))


def _examples(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few of each kind, right and wrong ones by turns where there are both."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        kinds.setdefault(answer["kind"], []).append(answer)
    chosen = []
    for kind in sorted(kinds):
        right, wrong = ([a for a in kinds[kind] if bool(a["correct"]) is wanted] for wanted in (True, False))
        chosen += [*right[:1], *wrong[:1], *right[1:], *wrong[1:]][:ANSWERS_PER_KIND]
    return chosen


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS else text[:TEXT_CHARACTERS].rstrip() + " …"


def _scalars(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if not isinstance(value, Mapping | list)}

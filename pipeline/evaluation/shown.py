"""What an evaluation shows: bars, samples, tables of prompting."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from pipeline.store.view import Bars, Block, Headline, Numbers, Show, Table, Texts, View

_NAMES = {
    "kneser_ney_1": "unigram",
    "kneser_ney_2": "bigram",
    "kneser_ney_3": "trigram",
    "kneser_ney_5": "5-gram",
    "pretrained": "this GPT, pretrained",
    "loaded": "this GPT, foundation",
}


def view(metrics: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> View:
    baselines, ours = metrics["baselines"], metrics["pretrained"]
    ngram = min(value for name, value in baselines.items() if name.startswith("kneser"))
    result = Headline(
        "language model",
        ours["bits_per_byte"],
        "bits/byte on held-out text",
        f"best n-gram {ngram:.3f}, xz {baselines['xz']:.3f}, gzip {baselines['gzip']:.3f}",
        f"−log₂ p of the held-out text, divided by its {metrics['test_bytes']:,} bytes. Lower is better.",
    )
    models = [name for name in ("pretrained", "loaded") if not (name == "loaded" and metrics["same_model"])]
    bits = baselines | {name: metrics[name]["bits_per_byte"] for name in models}
    ordered = sorted(bits.items(), key=lambda item: -item[1])
    bars = [(_NAMES.get(name, name), value, name in models) for name, value in ordered]
    note = "n-gram models have seen the same tokens; a compressor's number is what the text adds to the training text"
    numbers = [
        (name.replace("_", " "), metrics[model][name], _NAMES[model])
        for model in models
        for name in ("nats_per_token", "perplexity", "tokens")
    ]
    written = [([f"temperature {s['temperature']}", *s["models"]], s["prompt"], s["text"]) for s in samples]
    blocks: list[Block] = [
        Bars("Bits per byte of the test documents, lower is better", "bits/byte", bars, note),
        Numbers(numbers),
        Texts("Samples", written),
        *_prompting(metrics["prompting"], models),
        *_calibration(metrics.get("calibration", {}), models),
    ]
    return View("Evaluation", [result], blocks, quote=samples[0]["prompt"] + samples[0]["text"])


def _prompting(tasks: Mapping[str, Mapping[str, Any]], models: Sequence[str]) -> list[Table]:
    """A table a task: rows are models, columns numbers of shots."""
    tables = []
    for name, task in tasks.items():
        shots = list(task[models[0]])
        others = {key: value for key, value in task.items() if isinstance(value, float)}
        columns: list[tuple[str, Show]] = [("model", "text"), *((key.replace("_", " "), "percent") for key in shots)]
        rows = [[_NAMES[model], *(task[model][key] for key in shots)] for model in models]
        rows += [[key, *([value] * len(shots))] for key, value in others.items()]
        tables.append(Table(f"{name.capitalize()} by prompting, {task['examples']} examples, accuracy", columns, rows))
    return tables


def _calibration(tasks: Mapping[str, Mapping[str, Any]], models: Sequence[str]) -> list[Table]:
    """A table a task: a row for each model and number of shots, and the most frequent label."""
    ways, measures = ("uncalibrated", "calibrated"), {"accuracy": "accuracy", "macro_f1": "macro-F1"}
    columns: list[tuple[str, Show]] = [("model", "text"), ("shots", "text")]
    columns += [(f"{named}, {way}", "percent") for named in measures.values() for way in ways]
    tables = []
    for name, task in tasks.items():
        rows: list[list[Any]] = [
            [
                _NAMES[model],
                shots.removeprefix("shots_"),
                *(found[way][measure] for measure in measures for way in ways),
            ]
            for model in models
            for shots, found in task[model].items()
        ]
        if constant := task.get("majority"):
            rows.append(["majority", "", *(constant[measure] for measure in measures for _ in ways)])
        tables.append(Table(f"{name.capitalize()} by prompting, calibrated by an empty text", columns, rows))
    return tables


def markdown(samples: Sequence[Mapping[str, Any]], max_new_tokens: int, seed: int) -> str:
    """The samples as indented blocks, in which no character of a text has a meaning."""
    parts = [f"# Samples\n\nUp to {max_new_tokens} tokens after each prompt, seed {seed}.\n"]
    for sample in samples:
        parts.append(f"\n## {' = '.join(sample['models'])}, temperature {sample['temperature']}\n\n")
        parts += [f"    {line}\n" for line in (sample["prompt"] + sample["text"]).splitlines() or [""]]
    return "".join(parts)


def draw_bars(path: Path, bits: Mapping[str, float]) -> None:
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

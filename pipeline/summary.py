"""The last words of ``make repro``: the numbers, where to look, one generated text."""

import json
from pathlib import Path
from typing import Any

METRICS = Path("data/metrics")


def summary(root: Path) -> str:
    """What came out, for a terminal; parts that are not there yet are left out."""
    lines = [*_numbers(root), "", *_places(root)]
    if text := _sample(root):
        lines += ["", "One text of the pretrained model, greedy:", f"  {text}"]
    return "\n".join(lines)


def _numbers(root: Path) -> list[str]:
    evaluate, classify, instruct = (
        _metrics(root, name) for name in ("evaluate", "finetune_classify", "finetune_instruct")
    )
    lines = []
    if evaluate:
        baselines = evaluate["baselines"]
        ngram = min(value for name, value in baselines.items() if name.startswith("kneser_ney"))
        lines.append(
            f"language model    {evaluate['pretrained']['bits_per_byte']:.3f} bits/byte on held-out text "
            f"(best n-gram {ngram:.3f}, xz {baselines['xz']:.3f}, gzip {baselines['gzip']:.3f})"
        )
    if classify:
        lines.append(
            f"classification    {classify['accuracy']:.1%} accuracy, macro-F1 {classify['macro_f1']:.3f} "
            f"(TF-IDF + linear {classify['baseline_accuracy']:.1%})"
        )
    if instruct:
        lines.append(
            f"instructions      {instruct['exact_match']:.1%} exact (untuned {instruct['untuned']['exact_match']:.1%}, "
            f"nearest neighbour {instruct['nearest']['exact_match']:.1%}); "
            f"best of the three on {instruct['kinds_above_nearest']} of {instruct['kinds_total']} kinds"
        )
    return lines


def _places(root: Path) -> list[str]:
    places = [
        ("metrics", "data/metrics/*.json        (dvc metrics show, dvc metrics diff)"),
        ("report", "data/report/index.html"),
        ("export", "data/export/{pretrain,finetune_classify,finetune_instruct}"),
        ("use it", 'python -m gptcore generate data/export/pretrain "Once upon a time"'),
        ("pages", "make ui                    (MLflow and Prefect)"),
    ]
    return [f"{name:17} {place}" for name, place in places]


def _sample(root: Path) -> str:
    """The first sample of the evaluation, on one line."""
    path = root / "data" / "evaluation" / "samples.json"
    if not path.exists():
        return ""
    first = json.loads(path.read_text(encoding="utf-8"))
    first = first if isinstance(first, list) else first.get("samples", [])
    return " ".join((first[0]["prompt"] + first[0]["text"]).split()) if first else ""


def _metrics(root: Path, stage: str) -> dict[str, Any]:
    path = root / METRICS / f"{stage}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

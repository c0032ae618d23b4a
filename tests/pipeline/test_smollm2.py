"""The profile ``smollm2``, small, on a model that the test makes: from the file to the exports."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptcore.artifact import sha256_file
from pipeline.contract import overlays, params, plain_yaml
from pipeline.settings.download import DownloadConfig, SourceConfig
from pipeline.stages.download import download
from pipeline.stages.export import export
from pipeline.stages.finetune_classify import finetune_classify
from pipeline.stages.finetune_instruct import finetune_instruct
from pipeline.stages.finetune_prefer import finetune_prefer
from pipeline.stages.load_gpt2 import load_gpt2
from pipeline.store.checkpoint import Checkpoint
from pipeline.tracking.tracker import NullTracker
from tests.clone import Clone
from tests.pipeline.published import tiny_llama

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "finetune_classify": {"max_steps": 9, "batch_documents": 4, "adapter": {"blocks": 1}},  # as ``few``
    "finetune_instruct": {"max_steps": 4},
    "finetune_prefer": {"asked": 6, "tries": 2, "max_steps": 2, "batch_pairs": 2},
}
"""Of a model of two blocks; laid over ``tiny``."""
QUESTIONS = [("Say it.", letter, letter) for letter in "abcdefghijkl"]


def sections(project: Path) -> dict[str, Any]:
    """All parameters with the profile, ``tiny`` and what is smaller still in force."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for name in ("smollm2", "tiny"):
        text = overlays.laid_over(text, plain_yaml.read(ROOT / "profiles" / f"{name}.yaml"))
    (project / "params.yaml").write_text(overlays.laid_over(text, SMALL), encoding="utf-8")
    return params.check_all(project / "params.yaml")


def texts(project: Path) -> DownloadConfig:
    """Labelled letters, and instructions about them."""
    (project / "own").mkdir()
    rows = [
        f"{letter} again and {letter},{'even' if ord(letter) % 2 else 'odd'},{split}"
        for letter, split in zip("abcdefghijkl" * 4, (["train"] * 8 + ["val"] * 2 + ["test"] * 2) * 4, strict=True)
    ]
    (project / "own/letters.csv").write_text("\n".join(["text,label,split", *rows]) + "\n")
    lines = [
        {"instruction": asked, "input": given, "output": told, "kind": "say", "split": split}
        for (asked, given, told), split in zip(QUESTIONS, ["train"] * 6 + ["val"] * 3 + ["test"] * 3, strict=True)
    ]
    (project / "instructions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = {"text_column": "text", "label_column": "label", "split_column": "split", "labels": ["even", "odd"]}
    letters = SourceConfig("own://letters.csv", role="classification", format="csv", **columns)
    tales = SourceConfig("own://letters.csv", role="corpus", format="csv", text_column="text")
    return DownloadConfig({"letters": letters, "tales": tales})


def test_its_settings_take_a_file_to_models_that_transformers_reads(project: Path) -> None:
    cfg, file = sections(project), tiny_llama(project, "gguf", context=256)
    where = {"foundation": f"file://{file}", "foundation_sha256": sha256_file(file)}
    download(project / "own", project / "raw", replace(texts(project), **where, foundation_licence="Apache-2.0"))
    load_gpt2(project / "raw/foundation", project / "loaded", cfg["load_gpt2"])
    finetune_classify(
        project / "loaded", project / "raw", project / "labels", project / "labels.csv", project / "confusion.csv",
        cfg["finetune_classify"], NullTracker(),
    )  # fmt: skip
    finetune_instruct(
        project / "loaded", project / "instructions.jsonl", project / "instruct", project / "instruct.csv",
        cfg["finetune_instruct"], NullTracker(),
    )  # fmt: skip
    told = finetune_prefer(
        project / "instruct", project / "instructions.jsonl", project / "prefer", project / "prefer.csv",
        cfg["finetune_prefer"], NullTracker(),
    ).metrics  # fmt: skip
    assert told["pairs"]["train"] > 0
    for name in ("labels", "instruct", "prefer"):
        metrics = export(project / name, project / f"export-{name}", cfg["export"]).metrics
        assert (metrics["against"], metrics["token_ids_equal"]) == ("transformers", True)
        assert Checkpoint.open(project / name).sources["foundation"]["licence"] == "Apache-2.0"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_whole_graph_runs_on_it(tmp_path: Path) -> None:
    clone, file = Clone(tmp_path / "project"), tiny_llama(tmp_path, "gguf", context=2048)
    profile = clone.root / "profiles/smollm2.yaml"
    values = plain_yaml.read(profile)
    values["download"] |= {"foundation": f"file://{file}", "foundation_sha256": sha256_file(file)}
    values["finetune_classify"]["adapter"] = {"blocks": 1}
    profile.write_text(json.dumps(values), encoding="utf-8")
    printed = clone.repro("--profile", "smollm2+tiny")
    assert "Traceback" not in printed
    metrics = json.loads((clone.root / "data/metrics/load_gpt2.json").read_text())
    assert (metrics["against"], metrics["n_vocab"]) == ("transformers", 448)
    assert json.loads((clone.root / "data/metrics/evaluate.json").read_text())["same_model"] is False
    assert (clone.root / "data/export/finetune_prefer/README.md").is_file()
    assert "Running stage" not in clone.repro("--profile", "smollm2+tiny")

"""The stage ``export`` on tiny checkpoints: what it writes, counts and refuses."""

import json
import os
import re
import shutil
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from gptcore.artifact import open_verified
from gptcore.errors import DataError
from gptcore.formats.directory import load_classifier, load_model
from pipeline.exporters.transformers_reader import silent_transformers
from pipeline.stages.export import ExportConfig, export
from pipeline.store.checkpoint import Checkpoint
from tests.installed import install
from tests.pipeline.exporters.checkpoints import CONFIG, LLAMA, MIXED, MakeCheckpoint, make_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> MakeCheckpoint:
    return partial(make_checkpoint, tmp_path)


def test_equal_checkpoints_make_equal_bytes(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source = checkpoint("pretrain")
    assert export(source, tmp_path / "a", CONFIG).metrics == export(source, tmp_path / "b", CONFIG).metrics
    first, second = open_verified(tmp_path / "a", "export"), open_verified(tmp_path / "b", "export")
    assert first.files == second.files
    assert first.inputs == {"checkpoint": open_verified(source).content_hash}
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "a").glob("*.[jm][sd]*"))


@pytest.mark.parametrize("shape", [{}, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("stage", ["pretrain", "finetune_classify"])
def test_metrics_count_the_parameters_and_the_bytes(
    checkpoint: MakeCheckpoint, tmp_path: Path, stage: str, shape: dict[str, Any]
) -> None:
    metrics = export(checkpoint(stage, **shape), tmp_path / "export", CONFIG).metrics
    kind = "AutoModelForCausalLM" if stage == "pretrain" else "AutoModelForSequenceClassification"
    with silent_transformers() as transformers:
        theirs = getattr(transformers, kind).from_pretrained(tmp_path / "export")
    assert metrics["parameters"] == theirs.num_parameters()
    files = open_verified(tmp_path / "export").files
    assert metrics["bytes"] == sum(fact["size"] for fact in files.values())


def test_damaged_weights_are_refused_and_the_former_export_stays(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source, out = checkpoint("pretrain"), tmp_path / "export"
    export(source, out, CONFIG)
    before = open_verified(out).files
    weights = bytearray((source / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (source / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataError, match=r"model\.safetensors: damaged"):
        export(source, out, CONFIG)
    assert open_verified(out).files == before


@pytest.mark.parametrize("stage", ["pretrain", "finetune_classify", "finetune_instruct"])
def test_what_no_transformers_architecture_computes_is_exported_for_this_library_alone(
    checkpoint: MakeCheckpoint, tmp_path: Path, stage: str
) -> None:
    source, out = checkpoint(stage, **MIXED), tmp_path / "export"
    metrics = export(source, out, CONFIG).metrics
    proof = json.loads((out / "parity.json").read_text())
    assert (metrics["against"], proof["against"], proof["max_logit_difference"]) == ("gptcore", "gptcore", "< 1e-6")
    _, front, body = (out / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert YAML(typ="safe").load(front)["library_name"] == "gptcore"
    assert "can't be loaded by it: only\n`gptcore` opens it" in body
    assert "```python" not in body
    assert "Loaded afresh by `gptcore`" in body
    with silent_transformers() as transformers, pytest.raises(ValueError, match="gptcore"):
        transformers.AutoModel.from_pretrained(out)
    load = load_classifier if stage == "finetune_classify" else load_model
    ids = torch.arange(20)[None]
    assert torch.equal(load(out)(ids), load(source)(ids))


def test_nothing_is_looked_up_printed_or_left_in_the_environment(
    checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    export(checkpoint("pretrain"), tmp_path / "export", CONFIG)
    assert {name: value for name, value in os.environ.items() if name.startswith("HF_")} == before
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_that_does_not_say_what_it_is_for_is_refused(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path, "pretrain")
    before = Checkpoint.open(source)
    facts = {name: value for name, value in before.manifest.config.items() if name != "about"}
    with Checkpoint.create(tmp_path / "silent", facts) as draft:
        for name in before.manifest.files:
            shutil.copy(source / name, draft / name)
    with pytest.raises(DataError, match=r"expected 'about', found .*; run the stage that makes it again"):
        export(tmp_path / "silent", tmp_path / "export", CONFIG)
    assert not (tmp_path / "export").exists()


SECOND = """
from pipeline.exporters.formats.hugging_face import HuggingFace

class Second(HuggingFace):
    folder = "second"

MEMBER = Second()
"""


def test_a_format_of_ones_own_lies_in_its_folder_with_its_proof(
    checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", "pipeline.exporters.formats", "second", SECOND)
    monkeypatch.syspath_prepend(tmp_path / "site")
    cfg, out = replace(CONFIG, formats=["hugging-face", "second"]), tmp_path / "export"
    metrics = export(checkpoint("pretrain"), out, cfg).metrics
    assert metrics["second"] == {name: metrics[name] for name in metrics["second"]}
    assert metrics["second"]["greedy_equal"] is True
    assert (out / "second" / "parity.json").read_bytes() == (out / "parity.json").read_bytes()
    files = open_verified(out).files
    assert files["second/model.safetensors"] == files["model.safetensors"]
    assert metrics["bytes"] == sum(fact["size"] for fact in files.values())


@pytest.mark.parametrize(
    ("formats", "told"),
    [
        ([], " = []: expected at least one: some of hugging-face"),
        (["hugging-face", "onnx"], ": expected some of hugging-face, found 'onnx'"),
    ],
)
def test_an_unknown_format_is_told_beside_those_there_are(formats: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"formats{told}")):
        ExportConfig(formats=formats)


def test_the_view_is_the_proof(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    outcome = export(checkpoint("pretrain"), tmp_path / "export", CONFIG)
    view = json.loads(json.dumps(outcome.view.plain()))
    assert [headline["value"] for headline in view["headlines"]] == [outcome.metrics["max_logit_difference"]]
    proof = json.loads((tmp_path / "export" / "parity.json").read_text())
    (row,) = view["blocks"][0]["rows"]
    assert row[1:] == [
        "hugging-face",
        "transformers",
        outcome.metrics["max_logit_difference"],
        proof["texts"],
        proof["tokens"],
        outcome.metrics["parameters"],
        outcome.metrics["bytes"],
    ]
    assert all(path.is_file() for path in outcome.files)


@pytest.mark.parametrize("field", ["parity_texts", "parity_tokens"])
def test_the_proof_compares_something(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = 0: expected a whole number in 1 …"):
        ExportConfig(**{field: 0})

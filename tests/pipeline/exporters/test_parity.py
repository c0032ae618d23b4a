"""The proof of an export refuses files that mean something else."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gptcore.errors import DataError
from gptcore.formats.directory import save_model
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.exporters.parity import MOST_BEYOND, ROUNDINGS, Parity
from pipeline.stages.export import export
from pipeline.store.checkpoint import Checkpoint
from tests.pipeline.exporters.checkpoints import CONFIG, MIXED, MakeCheckpoint, prove_again, vocabulary


@pytest.mark.parametrize("stage", ["pretrain", "finetune_classify"])
def test_the_proof_refuses_weights_that_compute_something_else(
    checkpoint: MakeCheckpoint, tmp_path: Path, stage: str
) -> None:
    source, out = checkpoint(stage), tmp_path / "export"
    export(source, out, CONFIG)
    change(out, "transformer.h.1.mlp.c_proj.bias", 0.1)
    with pytest.raises(DataError, match=r"logits differ by .* expected at most 0\.0001"):
        prove_again(out, source)


def test_the_proof_refuses_another_vocabulary(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source, out = checkpoint("pretrain"), tmp_path / "export"
    export(source, out, CONFIG)
    other = BytePairs.train(["entirely different words make other merges " * 9], 300)
    with pytest.raises(DataError, match="token ids differ"):
        prove_again(out, source, other)


def test_the_proof_refuses_labels_in_another_order(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source, out = checkpoint("finetune_classify"), tmp_path / "export"
    export(source, out, CONFIG)
    fields = json.loads((out / "config.json").read_text())
    fields["id2label"] = {"0": "acq", "1": "earn", "2": "money-fx"}
    (out / "config.json").write_text(json.dumps(fields))
    with pytest.raises(DataError, match="labels differ"):
        prove_again(out, source)


@pytest.mark.parametrize("stage", ["pretrain", "finetune_classify"])
def test_the_proof_by_a_fresh_load_refuses_too(checkpoint: MakeCheckpoint, tmp_path: Path, stage: str) -> None:
    source, out = checkpoint(stage, **MIXED), tmp_path / "export"
    export(source, out, CONFIG)
    change(out, "blocks.1.mlp.proj.bias", 0.1)
    with pytest.raises(DataError, match=r"not exported, because under gptcore logits differ by"):
        prove_again(out, source)
    other = BytePairs.train(["entirely different words make other merges " * 9], 300)
    with pytest.raises(DataError, match="token ids differ"):
        prove_again(out, source, other)


@pytest.mark.parametrize(
    ("difference", "largest", "bound", "accepted"),
    [
        (0.0, 5.0, "< 1e-6", True),
        (3e-6, 5.0, "< 1e-5", True),
        (9e-5, 5.0, "< 1e-4", True),
        (1.1e-4, 5.0, "< 1e-3", False),
        (9e-4, 100.0, "< 1e-3", True),  # seven digits of a float32 of this size
        (2e-3, 100.0, "< 1e-2", False),
        (float("nan"), 5.0, "not finite", False),
        (float("inf"), 5.0, "not finite", False),
    ],
)
def test_the_bound_and_the_tolerance(difference: float, largest: float, bound: str, accepted: bool) -> None:
    parity = Parity(1, 1, difference, largest, token_ids_equal=True, choices_equal=True)
    assert parity.bound == bound
    assert (parity.problems() == []) is accepted


@pytest.mark.parametrize(
    ("name", "by", "told"),
    [
        ("transformer.h.1.mlp.c_proj.bias", 0.1, "logits differ by .*, expected at most"),
        ("transformer.ln_f.bias", 0.002, "logits differ by more than 0.0001 at [0-9]+% of the positions"),
    ],
)
def test_rounding_that_grows_is_no_other_function_and_a_change_is(
    checkpoint: MakeCheckpoint, tmp_path: Path, name: str, by: float, told: str
) -> None:
    """Neither a large one nor one that would drown in the rounding of a few positions."""
    source, other = chaotic(checkpoint("pretrain", n_layer=16), tmp_path / "chaotic"), tmp_path / "other"
    shutil.copytree(source, other)
    parity = prove_again(other, source)
    assert 1e-4 < parity.max_logit_difference <= ROUNDINGS * parity.last_bit
    assert 0 < parity.beyond < MOST_BEYOND
    assert parity.statement()["last_bit_of_embedding"].startswith("< 1e")
    change(other, name, by)
    with pytest.raises(DataError, match=told):
        prove_again(other, source)


def change(export: Path, name: str, by: float) -> None:
    """One number of one tensor."""
    tensors = load_file(export / "model.safetensors")
    tensors[name][3] += by
    save_file(tensors, export / "model.safetensors", metadata={"format": "pt"})


def chaotic(source: Path, out: Path) -> Path:
    """The checkpoint with such large queries and keys that every block makes rounding larger."""
    model = Checkpoint.open(source).load_language_model()
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight[: 2 * model.config.d_model] *= 5
    with Checkpoint.create(out, Checkpoint.open(source).manifest.config) as draft:
        save_model(model, draft, vocabulary())
    return out

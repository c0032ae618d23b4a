"""Weights in several files with an index, as `transformers` writes large models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gptcore.errors import DataError
from gptcore.formats import directory as formats
from gptcore.formats.containers.safetensors import INDEX_FILE, files
from gptcore.formats.directory import load_model
from tests.gptcore.oracles import assert_near, make_llama, random_ids


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In several files, by `transformers`."""
    path = tmp_path_factory.mktemp("sharded")
    make_llama().save_pretrained(path, max_shard_size="20KB")
    return path


@pytest.fixture
def sharded(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "m"))


def shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("model-*.safetensors"))


def test_a_model_in_several_files_is_the_same_model(sharded: Path):
    assert len(shards(sharded)) > 2
    assert files(sharded) == [sharded / INDEX_FILE, *shards(sharded)]
    oracle, model = make_llama(), load_model(sharded)
    ids = random_ids(model)
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids).logits)


def rename(directory: Path, place: str) -> None:
    fields = json.loads((directory / INDEX_FILE).read_text())
    fields["weight_map"] |= dict.fromkeys(list(fields["weight_map"])[:1], place)
    (directory / INDEX_FILE).write_text(json.dumps(fields))


def drop_a_tensor(directory: Path) -> None:
    path = shards(directory)[0]
    tensors = load_file(path)
    tensors.popitem()
    save_file(tensors, path)


def store_twice(directory: Path) -> None:
    first, second, *_ = shards(directory)
    save_file(load_file(second) | load_file(first), second)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda d: shards(d)[1].unlink(), "model-00002-of-"),
        (lambda d: (d / INDEX_FILE).write_text("{}"), "expected an object weight_map"),
        (lambda d: (d / INDEX_FILE).write_text('{"weight_map": [1]}'), "expected an object weight_map"),
        (lambda d: (d / INDEX_FILE).write_text("{"), "expected an index of weights in JSON"),
        (lambda d: rename(d, "../other/model.safetensors"), "expected names of safetensors files beside it"),
        (lambda d: rename(d, "model.bin"), "expected names of safetensors files beside it"),
        (lambda d: rename(d, 7), "expected names of safetensors files beside it, found 7"),
        (drop_a_tensor, "not in model-00001-of-"),
        (store_twice, "of which the index knows nothing"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(
    sharded: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None], message: str
):
    harm(sharded)
    monkeypatch.setattr(formats, "GPT", None)  # nothing is built
    with pytest.raises(DataError) as error:
        load_model(sharded)
    assert message in str(error.value)
    assert str(error.value).startswith(str(sharded))


def test_a_damaged_tensor_is_told_with_the_index(sharded: Path):
    path = shards(sharded)[0]
    tensors = load_file(path)
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name] / 0}, path)
    with pytest.raises(DataError, match=rf"{INDEX_FILE}: 1 problem\(s\) with the weights:\n  {name}: expected finite"):
        load_model(sharded)

"""``fetch_model`` with the real client of the Hugging Face hub, against a hub on this machine."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptcore.artifact import open_verified
from gptcore.errors import DataError, ParameterError, SourceUnavailableError
from gptcore.formats.directory import load_model
from gptcore.machine.identity import state_hash
from pipeline.sources import hub
from tests.hub_server import HubServer, save_tiny_gpt2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    save_tiny_gpt2(directory)
    return directory


@pytest.fixture
def server(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({"owner/tiny": model}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def test_a_model_arrives_without_what_nobody_should_load(server: HubServer, model: Path, tmp_path: Path) -> None:
    directory = hub.fetch_model("hf://owner/tiny", tmp_path)
    wanted = {"config.json", "generation_config.json", "model.safetensors", "vocab.json", "merges.txt"}
    assert {path.name for path in directory.iterdir()} == wanted | {"manifest.json"}
    assert all((directory / name).read_bytes() == (model / name).read_bytes() for name in wanted)
    assert open_verified(directory).config == {"repository": "owner/tiny", "commit": server.commit("owner/tiny")}


def test_a_model_in_several_files_arrives_whole(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import GPT2LMHeadModel

    shutil.copytree(model, tmp_path / "large")
    (tmp_path / "large" / "model.safetensors").unlink()
    GPT2LMHeadModel.from_pretrained(model).save_pretrained(tmp_path / "large", max_shard_size="20KB")
    (tmp_path / "large" / "model-notes.safetensors").write_bytes(b"not to be fetched")
    with HubServer({"owner/large": tmp_path / "large"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        directory = hub.fetch_model("hf://owner/large", tmp_path / "cache")
        shards = sorted(path.name for path in directory.glob("*.safetensors"))
        printed = subprocess.run(["sha256sum", *shards], cwd=directory, capture_output=True, check=True).stdout
        assert hub.fetch_model("hf://owner/large", tmp_path / "cache", hashlib.sha256(printed).hexdigest()) == directory
        with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}"):
            hub.fetch_model("hf://owner/large", tmp_path / "cache", "0" * 64)
    assert len(shards) > 1
    assert not (directory / "model-notes.safetensors").exists()
    assert state_hash(load_model(directory)) == state_hash(load_model(model))


def test_a_pinned_model_is_asked_for_once(server: HubServer, tmp_path: Path) -> None:
    uri = f"hf://owner/tiny@{server.commit('owner/tiny')}"
    first = hub.fetch_model(uri, tmp_path)
    server.requests.clear()
    assert hub.fetch_model(uri, tmp_path) == first
    assert server.requests == []
    (first / "vocab.json").write_text("{}")
    assert hub.fetch_model(uri, tmp_path) == first
    assert (first / "vocab.json").read_text() != "{}"


def test_a_branch_works_offline_once_it_was_fetched(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCORE_OFFLINE", "1")
    with pytest.raises(SourceUnavailableError, match="GPTCORE_OFFLINE"):
        hub.fetch_model("hf://owner/tiny@main", tmp_path)
    assert server.requests == []
    monkeypatch.setenv("GPTCORE_OFFLINE", "0")
    directory = hub.fetch_model("hf://owner/tiny@main", tmp_path)
    monkeypatch.setenv("GPTCORE_OFFLINE", "1")
    server.requests.clear()
    assert hub.fetch_model("hf://owner/tiny@main", tmp_path) == directory
    assert server.requests == []


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.json", "config.json"])
def test_a_bit_that_turned_on_the_way_is_noticed(server: HubServer, tmp_path: Path, name: str) -> None:
    server.damage(name)
    with pytest.raises(DataError, match=f"{name}: the hub lists"):
        hub.fetch_model("hf://owner/tiny", tmp_path)
    server.repair()
    assert open_verified(hub.fetch_model("hf://owner/tiny", tmp_path)).kind == hub.KIND


def test_a_pin_counts_more_than_what_the_hub_says(server: HubServer, model: Path, tmp_path: Path) -> None:
    weights = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    hub.fetch_model("hf://owner/tiny", tmp_path, weights)
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, found {weights}"):
        hub.fetch_model("hf://owner/tiny", tmp_path, "0" * 64)


def test_a_busy_hub_is_asked_again(server: HubServer, tmp_path: Path) -> None:
    server.failures = 2
    assert (hub.fetch_model("hf://owner/tiny", tmp_path) / "model.safetensors").exists()


@pytest.mark.parametrize("uri", ["hf://owner/other", "hf://owner/tiny@no-such-branch"])
def test_a_hub_without_the_model_says_what_to_do(server: HubServer, tmp_path: Path, uri: str) -> None:
    with pytest.raises(SourceUnavailableError, match="HF_ENDPOINT") as caught:
        hub.fetch_model(uri, tmp_path)
    assert caught.value.exit_code == 69


def test_a_model_without_safetensors_is_refused(server: HubServer, tmp_path: Path) -> None:
    del server.repositories["owner/tiny"]["model.safetensors"]
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        hub.fetch_model("hf://owner/tiny", tmp_path)


@pytest.mark.parametrize("uri", ["hf://name", "hf://a/b/c", "https://a/b", "hf://owner/name@", "hf://owner/name@../x"])
def test_a_bad_model_address_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ParameterError, match="hf://OWNER/NAME@REVISION"):
        hub.fetch_model(uri, tmp_path)

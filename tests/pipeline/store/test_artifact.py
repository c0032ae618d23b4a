"""Typed directories: verified once in a process, anew after a touch; refusals in one sentence."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from gptcore.artifact import MANIFEST, commit, open_verified
from gptcore.errors import DataError
from pipeline.store.artifact import Artifact, content_hash, file_hash, verified
from pipeline.store.checkpoint import Checkpoint
from pipeline.store.tokens import Tokens
from pipeline.store.windows import Windows

FILES = {"a.bin": bytes(300_000), "deep/b.bin": b"b" * 70_000}
SIZE = sum(map(len, FILES.values()))
KINDS = {"tokens": Tokens, "windows": Windows}


class Hashed:
    """Counts the bytes that this process hashes, file by file."""

    def __init__(self) -> None:
        self.bytes = 0

    def since(self) -> int:
        """Bytes since the last time one asked."""
        counted, self.bytes = self.bytes, 0
        return counted


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Hashed:
    real, counter = hashlib.file_digest, Hashed()

    def counted(file: BinaryIO, digest: str) -> Any:
        counter.bytes += os.fstat(file.fileno()).st_size
        return real(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return counter


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make(tmp_path / "tokens", n_vocab=7, eot=6)


def make(path: Path, kind: str = "tokens", **facts: Any) -> Path:
    with commit(path, kind=kind, config=facts) as draft:
        for name, content in FILES.items():
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_bytes(content)
    for file in path.rglob("*"):
        os.utime(file, (10**9, 10**9))  # a file system's clock ticks slowly, and a test is fast
    return path


# --- once ------------------------------------------------------------------------------------------------


def test_an_input_is_hashed_once_however_often_it_is_opened(directory: Path, hashed: Hashed) -> None:
    open_verified(directory)
    assert hashed.since() == SIZE  # what one verification costs
    first = Tokens.open(directory)
    assert hashed.since() == SIZE
    for again in (Tokens.open(directory), Artifact.open(directory), Tokens.open(Path(str(directory)))):
        assert again.manifest == first.manifest
    assert content_hash(directory) == verified(directory).content_hash == first.content_hash
    assert (first.n_vocab, first.eot, first.path) == (7, 6, directory)
    assert hashed.since() == 0


def test_a_plain_file_and_a_plain_directory_are_hashed_once(tmp_path: Path, hashed: Hashed) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert file_hash(tmp_path / "a.bin") == hashlib.sha256(FILES["a.bin"]).hexdigest()
    assert content_hash(tmp_path / "a.bin") == file_hash(tmp_path / "a.bin")
    assert hashed.since() == len(FILES["a.bin"])
    before = content_hash(tmp_path)
    assert hashed.since() == len(FILES["deep/b.bin"])
    assert content_hash(tmp_path) == before
    assert hashed.since() == 0
    (tmp_path / "deep" / "b.bin").rename(tmp_path / "deep" / "c.bin")
    assert content_hash(tmp_path) != before


# --- anew ------------------------------------------------------------------------------------------------


def test_a_file_touched_meanwhile_is_verified_anew(directory: Path, hashed: Hashed) -> None:
    Tokens.open(directory)
    hashed.since()
    os.utime(directory / "a.bin")
    Tokens.open(directory)
    assert hashed.since() == SIZE
    Tokens.open(directory)
    assert hashed.since() == 0


def test_an_artifact_made_again_is_another(directory: Path) -> None:
    assert Tokens.open(directory).n_vocab == 7
    make(directory, n_vocab=9)
    assert Tokens.open(directory).n_vocab == 9


def flip(directory: Path) -> None:
    (directory / "a.bin").write_bytes(b"\1" + FILES["a.bin"][1:])


def flip_in_the_manifest(directory: Path) -> None:
    manifest = directory / MANIFEST
    manifest.write_text(manifest.read_text().replace('"n_vocab": 7', '"n_vocab": 8'))


DAMAGES = {
    "a bit": (flip, r"a\.bin: damaged"),
    "a file gone": (lambda d: (d / "deep" / "b.bin").unlink(), r"deep/b\.bin: expected by manifest\.json, but missing"),
    "a file more": (lambda d: (d / "deep" / "c.bin").touch(), r"deep/c\.bin: a file that manifest\.json does not know"),
    "another name": (lambda d: (d / "a.bin").rename(d / "a.bak"), r"a\.bin: expected by manifest\.json, but missing"),
    "the manifest": (flip_in_the_manifest, r"manifest\.json: not a manifest"),
    "no manifest": (lambda d: (d / MANIFEST).unlink(), "is no complete artifact"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_between_two_readers_is_noticed_every_time(directory: Path, damage: str) -> None:
    Tokens.open(directory)
    change, complaint = DAMAGES[damage]
    change(directory)
    for _ in range(2):
        with pytest.raises(DataError, match=complaint):
            Tokens.open(directory)


def test_a_bit_that_rots_without_a_new_time_is_noticed(directory: Path) -> None:
    before = (directory / "a.bin").stat()
    Tokens.open(directory)
    file_hash(directory / "a.bin")
    flip(directory)
    os.utime(directory / "a.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match=r"a\.bin: damaged"):
        Tokens.open(directory)
    assert file_hash(directory / "a.bin") != hashlib.sha256(FILES["a.bin"]).hexdigest()


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("made", "wanted"), [("tokens", "windows"), ("windows", "tokens")])
def test_another_kind_is_refused(tmp_path: Path, made: str, wanted: str) -> None:
    path = make(tmp_path / "x", made)
    assert Artifact.open(path).manifest.kind == made
    assert KINDS[made].open(path).path == path
    with pytest.raises(DataError, match=rf"x: expected an artifact of kind '{wanted}', found '{made}'$"):
        KINDS[wanted].open(path)


def test_damage_names_the_command_that_mends_it(directory: Path) -> None:
    (directory / "a.bin").write_bytes(b"other")
    with pytest.raises(DataError, match=r"a.bin.*run `python -m pipeline verify --repair`"):
        Tokens.open(directory)


def test_a_missing_fact_is_one_message(tmp_path: Path) -> None:
    tokens = Tokens.open(make(tmp_path / "x", eot=6, tokenizer="t"))
    with pytest.raises(DataError) as caught:
        assert tokens.n_vocab
    assert str(caught.value) == (
        f"{tmp_path}/x/manifest.json: expected 'n_vocab', found eot, tokenizer; run the stage that makes it again"
    )
    with pytest.raises(DataError, match="expected 'about', found nothing; run the stage that makes it again"):
        assert Checkpoint.open(make(tmp_path / "y", "checkpoint")).about


def test_what_is_not_there_says_how_it_comes_to_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: missing; run the stage that makes it first \(`dvc repro`\)"):
        content_hash(tmp_path / "gone")
    with pytest.raises(DataError, match=r"gone/manifest\.json: missing, so .*gone is no complete artifact"):
        Tokens.open(tmp_path / "gone")


def test_an_artifact_is_written_whole_and_under_its_kind(tmp_path: Path) -> None:
    with Windows.create(tmp_path / "w", {"stride": 4, "context_length": 8}, {"tokens": "a hash"}) as draft:
        (draft / "x").write_text("x")
    made = Windows.open(tmp_path / "w")
    assert (made.stride, made.context_length, made.manifest.inputs) == (4, 8, {"tokens": "a hash"})
    with suppress(KeyboardInterrupt), Windows.create(tmp_path / "w", {"stride": 5}) as draft:
        (draft / "x").write_text("y")
        raise KeyboardInterrupt
    assert Windows.open(tmp_path / "w").stride == 4

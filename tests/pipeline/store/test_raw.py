"""``data/raw``: what a source is, read as it was written, and nothing that was not verified."""

from pathlib import Path

import pytest

from gptcore.artifact import commit, sha256_file
from gptcore.errors import DataError
from pipeline.store.raw import Layout, Raw, RawFile, Source
from tests.raw_data import make_raw

LABELLED = Layout("orange-tab", "Text", "Class", ("no", "yes"))
TEXT = Layout("text")


def test_nothing_unverified_is_read(tmp_path: Path) -> None:
    raw = make_raw(tmp_path, ("book", TEXT, b"some text"))
    (raw / "book" / "book.data").write_bytes(b"same text")
    with pytest.raises(DataError, match=r"book\.data: damaged"):
        Raw.open(raw)


def test_sources_are_read_as_they_were_written(tmp_path: Path) -> None:
    raw = make_raw(tmp_path, ("a", LABELLED, b"Class\tText\nd\tstring\nclass\t\n"), ("b", TEXT, b"b"))
    a, b = Raw.open(raw).entries
    assert a.layout == LABELLED
    assert b == Source("b", "corpus", TEXT, "", "file://x", "public domain", b.files)
    assert b.files == (RawFile("b/b.data", sha256_file(raw / "b" / "b.data"), 1),)
    assert Raw.open(raw).described("corpus") == {
        name: {"uri": "file://x", "licence": "public domain"} for name in ("a", "b")
    }
    assert Raw.open(raw).described("classification") == {}


def test_a_directory_with_a_foreign_list_of_sources_is_refused(tmp_path: Path) -> None:
    with commit(tmp_path / "raw", kind="raw", config={}) as draft:
        (draft / "sources.json").write_text('[{"name": "x"}]')
    with pytest.raises(DataError, match=r"sources\.json: not a list of sources"):
        assert Raw.open(tmp_path / "raw").entries


def test_the_vocabulary_is_one_file(tmp_path: Path) -> None:
    raw = make_raw(tmp_path, ("ranks", Layout("tiktoken"), b"IQ== 0\n"), role="vocabulary")
    assert Raw.open(raw).vocabulary_file().read_bytes() == b"IQ== 0\n"
    with pytest.raises(DataError, match="expected one vocabulary file, found 0"):
        Raw.open(make_raw(tmp_path, ("book", TEXT, b"x"))).vocabulary_file()


def test_labelled_sources_share_one_list_of_labels(tmp_path: Path) -> None:
    other = Layout("orange-tab", "Text", "Class", ("yes", "no"))
    raw = make_raw(tmp_path, ("a", LABELLED, b""), ("b", other, b""), role="classification", split="train")
    with pytest.raises(DataError, match="expected one list of labels for all labelled sources, found 2"):
        Raw.open(raw).labels()

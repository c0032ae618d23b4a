"""Splits: by hash, or by blocks; nothing lost, nothing twice."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptcore.errors import DataError
from pipeline.corpus.document import Document
from pipeline.corpus.splits import SplitConfig, split_documents

BY_HASH = SplitConfig(val_fraction=0.2, test_fraction=0.2, min_documents=0)
BY_BLOCKS = SplitConfig(val_fraction=0.1, test_fraction=0.2, min_documents=1000)


def documents(texts: list[str]) -> list[Document]:
    return [Document("s", "f.txt", i, 0, len(t.encode()), t) for i, t in enumerate(texts)]


def test_a_document_keeps_its_split_when_others_are_added() -> None:
    few = documents([f"document {i}" for i in range(50)])
    many = documents([f"document {i}" for i in range(200)])
    of_few = split_documents(few, BY_HASH)
    of_many = split_documents(many, BY_HASH)
    for split, docs in of_few.items():
        assert {d.text for d in docs} <= {d.text for d in of_many[split]}


@given(st.lists(st.text(alphabet="ab \nß😀", min_size=30, max_size=200), min_size=1, max_size=3, unique=True))
def test_blocks_are_the_text_in_order_and_spans_are_exact(texts: list[str]) -> None:
    try:
        parts = split_documents(documents(texts), BY_BLOCKS)
    except DataError:
        return  # a part came out as white space only
    for index, text in enumerate(texts):
        pieces = [d for split in ("train", "val", "test") for d in parts[split] if d.index == index]
        assert "".join(d.text for d in pieces) == text
        for piece in pieces:
            assert text.encode()[piece.start : piece.end].decode() == piece.text


def test_too_little_text_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"leaves nothing for .*min_documents"):
        split_documents(documents(["one document"]), BY_HASH)


def test_a_piece_can_be_read_again_from_the_raw_file(tmp_path: Path) -> None:
    text = "".join(f"line {i} of a täle\n" for i in range(200))
    (tmp_path / "f.txt").write_text(text, encoding="utf-8")
    parts = split_documents(documents([text]), BY_BLOCKS)
    raw = (tmp_path / "f.txt").read_bytes()
    for docs in parts.values():
        assert raw[docs[0].start : docs[0].end].decode() == docs[0].text
        assert docs[0].text.endswith("\n")

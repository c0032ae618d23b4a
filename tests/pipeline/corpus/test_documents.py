"""Raw files as documents, with Python's csv module as the oracle for rows and the raw bytes for spans."""

import codecs
import csv
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError
from pipeline.corpus.document import Document, LabelledDocument
from pipeline.corpus.documents import read_documents, read_labelled, read_span
from pipeline.corpus.readers import Skipped, parse
from pipeline.corpus.steps import CleanConfig, clean
from pipeline.store.raw import Layout, Raw
from tests.raw_data import make_raw

TAB = Layout("orange-tab", text_column="Text")
LABELLED = Layout("orange-tab", "Text", "Class", ("no", "yes"))
JSONL = Layout("jsonl", text_column="text")
TEXT = Layout("text")


def read(raw: Path) -> tuple[list[Document], dict[str, int]]:
    return read_documents(Raw.open(raw))


def labelled(raw: Path, split: str) -> list[LabelledDocument]:
    return read_labelled(Raw.open(raw), split)


def span(raw: Path, document: Document) -> str:
    return read_span(Raw.open(raw), document.file, document.start, document.end)


def tab(*rows: str) -> bytes:
    return "\n".join(["Class\tText\tNote", "d\tstring\tstring", "class\t\tmeta", *rows, ""]).encode()


# --- orange-tab ------------------------------------------------------------------------------------------


def test_rows_are_documents_and_quotes_are_characters(tmp_path: Path) -> None:
    raw = make_raw(tmp_path, ("tales", TAB, tab('yes\t"Who\'s there?" she said.\tn', 'no\t"Nobody\tn')))
    documents, skipped = read(raw)
    assert [d.text for d in documents] == ['"Who\'s there?" she said.', '"Nobody']
    assert [(d.source, d.file, d.index) for d in documents] == [
        ("tales", "tales/tales.data", 0),
        ("tales", "tales/tales.data", 1),
    ]
    assert skipped == {}


def test_malformed_rows_are_counted_by_reason(tmp_path: Path) -> None:
    rows = tab("", "yes\tgood\tn", "   ", "yes", "yes\tno note", "yes\ttoo\tmany\tcells", "yes\t  \tn", "no\tlast\tn")
    documents, skipped = read(make_raw(tmp_path, ("tales", TAB, rows)))
    assert [d.text for d in documents] == ["good", "last"]
    assert skipped == {"empty_row": 2, "short_row": 2, "long_row": 1, "empty_text": 1}


CELL = st.text(st.characters(exclude_characters="\t\r\n\0", exclude_categories=["Cs"]), max_size=20)
ROW = st.lists(CELL, max_size=5)


@given(
    rows=st.lists(ROW, max_size=12),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=16, max_size=16),
    mark=st.booleans(),
    ended=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_any_file_reads_as_csv_reads_it_and_spans_lead_back(
    rows: list[list[str]], ends: list[str], mark: bool, ended: bool
) -> None:
    rows = [["Class", "Text", "Note"], ["d", "string", "string"], ["class", "", ""], ["a", "last resort", "b"], *rows]
    text = "".join("\t".join(row) + end for row, end in zip(rows, ends, strict=False))
    if not ended:
        text = text.rstrip("\r\n") if len(rows) > 4 else text
    content = codecs.BOM_UTF8 * mark + text.encode()
    oracle = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    expected = [row[1] for row in list(oracle)[3:] if len(row) == 3 and row[1].strip()]
    with tempfile.TemporaryDirectory() as directory:
        raw = make_raw(Path(directory), ("any", TAB, content))
        documents, _ = read(raw)
        assert [d.text for d in documents] == expected
        assert [span(raw, d) for d in documents] == expected
        assert [content[d.start : d.end].decode() for d in documents] == expected


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"Class\tText\n", "three header rows"),
        (b"Class\tBody\nd\tstring\n\t\n", "one column 'Text', found the columns"),
        (b"Text\tText\nstring\tstring\n\t\n", "one column 'Text', found the columns"),
        (b"Class\tText\nyes\tIt was\nno\ta plain table\n", "type 'string' under 'Text'"),
        (b"Class\tText\nd\n\t\n", "type 'string' under 'Text'"),
    ],
)
def test_a_file_that_is_no_orange_tab_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read(make_raw(tmp_path, ("tales", TAB, content)))


# --- plain text ------------------------------------------------------------------------------------------


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    raw = make_raw(tmp_path, ("book", TEXT, codecs.BOM_UTF8 + "Été\r\n\r\nfin\rne\n".encode()))
    (document,), _ = read(raw)
    assert document.text == "Été\r\n\r\nfin\rne\n"
    assert document.start == 3
    (cleaned,), _ = clean([document], CleanConfig(["line-ends"]))
    assert cleaned.text == "Été\n\nfin\rne\n"
    assert span(raw, document) == document.text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("Schöne Tage".encode("latin-1"), r"book\.data: expected UTF-8, found byte 0xf6 at offset 3 .*WINDOWS-1252"),
        ("Tage".encode("utf-16"), r"found byte 0xff at offset 0 .*iconv -f UTF-16"),
        (b"ab\0c", r"book\.data: .* NUL byte at offset 2"),
        ("\ud800".encode("utf-8", "surrogatepass"), "at offset 0"),
    ],
)
def test_what_is_no_text_is_an_error_at_its_place(tmp_path: Path, content: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read(make_raw(tmp_path, ("book", TEXT, content)))


def test_a_corpus_without_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no text"):
        read(make_raw(tmp_path, ("book", TEXT, b" \n")))


# --- JSON lines ------------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_json_lines_give_back_any_text(texts: list[str], ascii_only: bool) -> None:
    texts = ["first", *texts]
    content = "".join(json.dumps({"text": text}, ensure_ascii=ascii_only) + "\n" for text in texts).encode()
    with tempfile.TemporaryDirectory() as directory:
        raw = make_raw(Path(directory), ("lines", JSONL, content))
        documents, skipped = read(raw)
        expected = [text for text in texts if text.strip()]
        assert [d.text for d in documents] == expected
        assert [span(raw, d) for d in documents] == expected
        assert [json.loads(content[d.start : d.end])["text"] for d in documents] == expected
        assert sum(skipped.values()) == len(texts) - len(expected)


def test_malformed_lines_are_counted_by_reason(tmp_path: Path) -> None:
    lines = [
        '{"text": "good"}\r',
        "",
        '{"text": "cut off',
        '"no object"',
        '{"body": "x"}',
        '{"text": 7}',
        r'{"text": "half \ud800"}',
        r'{"text": "nul \u0000"}',
        '{"text": " "}',
        "[" * 100_000,
        '{"text": "last, without a line break"}',
    ]
    documents, skipped = read(make_raw(tmp_path, ("lines", JSONL, "\n".join(lines).encode())))
    assert [d.text for d in documents] == ["good", "last, without a line break"]
    assert skipped == {"empty_row": 1, "invalid_json": 2, "missing_text": 3, "invalid_text": 2, "empty_text": 1}


# --- labels ----------------------------------------------------------------------------------------------


def test_labelled_documents_by_split(tmp_path: Path) -> None:
    content = tab("yes\tgood news\tn", "no\tbad news\tn")
    raw = make_raw(tmp_path, ("news", LABELLED, content), role="classification", split="train")
    documents = labelled(raw, "train")
    assert [(d.text, d.label) for d in documents] == [("good news", "yes"), ("bad news", "no")]
    assert [span(raw, d) for d in documents] == ["good news", "bad news"]
    assert Raw.open(raw).labels() == ("no", "yes")
    with pytest.raises(DataError, match="`split: test`"):
        labelled(raw, "test")


def test_labels_in_json_lines(tmp_path: Path) -> None:
    layout = Layout("jsonl", "text", "stars", ("1", "5"))
    content = b'{"text": "dull\\r\\nand long", "stars": 1}\n'
    raw = make_raw(tmp_path, ("n", layout, content), role="classification", split="test")
    assert [(d.text, d.label) for d in labelled(raw, "test")] == [("dull\nand long", "1")]


@pytest.mark.parametrize("label", ["maybe", "", "Yes", "yes "])
def test_an_undeclared_label_is_an_error_at_its_line(tmp_path: Path, label: str) -> None:
    content = tab("yes\tgood news\tn", "", f"{label}\tnews\tn")
    raw = make_raw(tmp_path, ("news", LABELLED, content), role="classification", split="train")
    with pytest.raises(DataError, match=rf"news\.data, line 6: .*\['no', 'yes'\], found '{label}'"):
        labelled(raw, "train")


def test_labelled_text_is_not_training_text(tmp_path: Path) -> None:
    raw = make_raw(tmp_path, ("news", LABELLED, tab("yes\tgood\tn")), role="classification", split="train")
    with pytest.raises(DataError, match="holds no text"):
        read(raw)


# --- any format ------------------------------------------------------------------------------------------


def test_parse_names_the_file_as_the_caller_calls_it() -> None:
    with pytest.raises(DataError, match=r"^my file\.txt: expected UTF-8"):
        list(parse(io.BytesIO(b"\xff"), TEXT, "my file.txt", Skipped()))


def test_a_file_without_a_document_in_ten_thousand_lines_is_refused_there() -> None:
    lines = b"{\n" * 10_000
    with pytest.raises(DataError, match=r"own/x\.jsonl: expected JSON lines .*'text'.*\(line 1: invalid_json\)"):
        list(parse(io.BytesIO(lines + b"{\n"), JSONL, "own/x.jsonl", Skipped()))
    skipped = Skipped()
    good = b'{"text": "a"}\n'
    assert [row.text for row in parse(io.BytesIO(good + lines + good), JSONL, "own/x.jsonl", skipped)] == ["a", "a"]
    assert skipped["invalid_json"] == 10_000

"""Tables as documents, with pandas as the oracle of rows and the raw bytes of spans; what is refused, and how."""

import codecs
import io
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gptcore.errors import DataError
from pipeline.corpus.documents import read_documents, read_labelled, read_span
from pipeline.corpus.readers import Row, Skipped, parse
from pipeline.corpus.readers.csv import HOPELESS, MOST_TOLD
from pipeline.store.raw import Layout, Raw
from tests.raw_data import make_raw

LABELLED = Layout("csv", "text", "label", ("good", "bad"))
SIGNS = {"csv": ",", "tsv": "\t"}
HOSTILE = [
    'a"b',
    '"',
    '""',
    "a,b",
    "a\tb",
    "two\nlines",
    "two\r\nlines",
    "old\rMac",
    "",
    " x ",
    "naïve 😀",
    "\ufeff",
    "1",
]


def rows_of(content: bytes, layout: Layout = LABELLED, skipped: Skipped | None = None) -> list[Row]:
    return list(parse(io.BytesIO(content), layout, "own.csv", skipped if skipped is not None else Skipped()))


def cell(text: str, quoted: bool) -> str:
    """As RFC 4180 has it."""
    return '"' + text.replace('"', '""') + '"' if quoted or set(text) & set('",\t\r\n') else text


CELL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    HOSTILE
)


@pytest.mark.parametrize("form", ["csv", "tsv"])
@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=8),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]), min_size=20, max_size=20),
    quotes=st.lists(st.booleans(), min_size=60, max_size=60),
    mark=st.booleans(),
    ended=st.booleans(),
)
@example([HOSTILE[i : i + 3] for i in range(0, 12, 3)], ["\r\n"] * 20, [False] * 60, True, False)
@settings(max_examples=80, deadline=None)
def test_any_table_reads_as_pandas_reads_it_and_spans_lead_back(
    form: str, rows: list[list[str]], ends: list[str], quotes: list[bool], mark: bool, ended: bool
) -> None:
    rows = [["id", "the text", "note"], ["1", "last resort", ""], *rows]
    quoted = iter(quotes)
    lines = (SIGNS[form].join(cell(text, next(quoted)) for text in row) for row in rows)
    text = "".join(line + end for line, end in zip(lines, ends, strict=False))
    content = codecs.BOM_UTF8 * mark + (text if ended else text.rstrip("\r\n")).encode()
    oracle = pd.read_csv(io.BytesIO(content), sep=SIGNS[form], dtype=str, keep_default_na=False, encoding="utf-8")
    expected = [each for each in oracle["the text"] if each.strip()]
    with tempfile.TemporaryDirectory() as directory:
        raw = make_raw(Path(directory), ("any", Layout(form, "the text"), content))
        documents, _ = read_documents(Raw.open(raw))
        assert [d.text for d in documents] == expected
        assert [read_span(Raw.open(raw), d.file, d.start, d.end) for d in documents] == expected
        spans = [content[d.start : d.end].decode() for d in documents]
        assert all(span in (text, cell(text, True)) for span, text in zip(spans, expected, strict=True))


def test_labels_and_splits_stand_in_columns(tmp_path: Path) -> None:
    layout = Layout("csv", "text", "label", ("good", "bad"), "part")
    content = b'part,label,text\ntrain,good,"so, so"\ntest,bad,"""no"""\nval,bad,never\n'
    raw = Raw.open(make_raw(tmp_path, ("own", layout, content), role="classification", split=""))
    found = {split: [(d.text, d.label) for d in read_labelled(raw, split)] for split in ("train", "val", "test")}
    assert found == {"train": [("so, so", "good")], "val": [("never", "bad")], "test": [('"no"', "bad")]}


def test_a_cell_may_be_a_book() -> None:
    book = "word, " * 100_000
    assert [row.text for row in rows_of(f'text,label\n"{book}",good\n'.encode())] == [book]


def test_blank_lines_are_no_rows() -> None:
    skipped = Skipped()
    content = b'\n\ntext,label\n\n   \n"a\n\nb",good\n"",bad\n\n'
    assert [row.text for row in rows_of(content, skipped=skipped)] == ["a\n\nb"]
    assert skipped == {"empty_row": 3, "empty_text": 1}
    assert skipped.first["empty_row"] == "line 4"


# --- what is refused --------------------------------------------------------------------------------------


def test_every_bad_row_is_told_with_its_line_and_the_good_ones_do_not_hide_it() -> None:
    content = (
        b"text,label\n"
        b"fine,good\n"
        b'"over\ntwo lines",good\n'  # lines 3 and 4
        b"too,many,bad\n"
        b"short\n"
        b"fine,maybe\n"
        b'"wrong "quote" here",good\n'
        b"fine,bad\n"
        b'"never closed,bad\n'
        b"to the end\n"
    )
    with pytest.raises(DataError) as caught:
        rows_of(content)
    assert caught.value.exit_code == 65
    first, *told = str(caught.value).splitlines()
    assert first == (
        "own.csv: 5 bad row(s); correct them, or what params.yaml says of this source (labels: ['good', 'bad']):"
    )
    assert [line.strip() for line in told] == [
        "line 5: expected 2 cells, as in the first row, found 3",
        "line 6: expected 2 cells, as in the first row, found 1",
        "line 7: expected one of the labels, found 'maybe'",
        "line 8: expected a comma or tab, or the row's end, after a closing quote; write a quote in a cell twice",
        "line 10: expected a closing quote, found the end of the file",
    ]


def test_a_split_of_another_name_is_told(tmp_path: Path) -> None:
    layout = Layout("csv", "text", "label", ("good",), "part")
    with pytest.raises(DataError, match=r"line 3: expected train, val, test under 'part', found 'dev'"):
        rows_of(b"text,label,part\na,good,train\nb,good,dev\n", layout)
    json = b'{"text": "a", "label": "good", "part": "dev"}\n'
    with pytest.raises(DataError, match=r"byte 0: expected train, val, test under 'part', found 'dev'"):
        rows_of(json, Layout("jsonl", "text", "label", ("good",), "part"))


def test_a_hostile_table_fills_no_terminal_and_no_time() -> None:
    with pytest.raises(DataError) as caught:
        rows_of(b"text,label\n" + b"a,\x1b]0;title\x07" + b"x" * 5000 + b"\n" + b"a\n" * 200)
    lines = str(caught.value).splitlines()
    assert len(lines) == MOST_TOLD + 2
    assert lines[-1].strip() == f"… and {201 - MOST_TOLD} more"
    assert max(map(len, lines)) < 400
    assert "\x1b" not in str(caught.value)
    with pytest.raises(DataError, match=f"(?s){HOPELESS} bad row.*… and {HOPELESS - MOST_TOLD} more; the rest was not"):
        rows_of(b"text,label\n" + b"a\n" * (HOPELESS + 5))


def test_one_bad_row_in_ten_thousand_good_ones_is_found() -> None:
    with pytest.raises(DataError, match="line 10002: expected one of the labels, found ''"):
        rows_of(b"text,label\n" + b"a,good\n" * 10_000 + b"a,\n")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"expected one column 'text' in the first row, which names the columns, found \[\]"),
        (b"Text,label\na,good\n", r"expected one column 'text' .* found \['Text', 'label'\]; correct params\.yaml"),
        (b"text,label,text\na,good,b\n", "expected one column 'text'"),
        (b"text,stars\na,good\n", "expected one column 'label'"),
        (b"text;label\na;good\n", r"\(is it separated by ;\? `csv` is by commas, `tsv` by tabs\)"),
        (b"text\tlabel\na\tgood\n", r"\(is it separated by \\t\?"),
        (b'"text,label\na,good\n', "line 1: expected a closing quote, found the end of the file"),
        (b'"text"s,label\na,good\n', "line 1: expected a comma or tab, or the row's end, after a closing quote"),
        ("text,label\nSchön,good\n".encode("latin-1"), r"own\.csv: expected UTF-8, found byte 0xf6 at offset 14"),
        ("text,label\n".encode("utf-16"), "iconv -f UTF-16"),
        (b"text,label\na\0b,good\n", "NUL byte at offset 12"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        rows_of(content)

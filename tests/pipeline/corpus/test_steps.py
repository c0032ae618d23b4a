"""Cleaning: the steps that were asked for, in that order, each with its count."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.document import Document
from pipeline.corpus.splits import SplitConfig, split_documents
from pipeline.corpus.steps import STEPS, CleanConfig, clean
from tests.installed import install

ENDS, TWICE = "line-ends", "exact-duplicates"


def documents(*texts: str) -> list[Document]:
    return [Document("s", "f.txt", i, 10 * i, 10 * i + len(t.encode()), t) for i, t in enumerate(texts)]


def test_steps_run_in_the_order_that_was_asked_for() -> None:
    found = documents("one\n", "one\r\n", "two")
    left, dropped = clean(found, CleanConfig([ENDS, TWICE]))
    assert [d.text for d in left] == ["one\n", "two"]
    assert list(dropped.items()) == [(ENDS, 0), (TWICE, 1)]
    left, dropped = clean(found, CleanConfig([TWICE, ENDS]))
    assert [d.text for d in left] == ["one\n", "one\n", "two"]
    assert list(dropped.items()) == [(TWICE, 0), (ENDS, 0)]


def test_without_steps_nothing_changes() -> None:
    found = documents("one\r\n", "one\r\n")
    assert clean(found, CleanConfig([])) == (found, {})


@given(st.lists(st.text(alphabet="ab\r\nß", max_size=4), max_size=12))
def test_what_is_left_are_the_first_of_their_kind_in_their_order_and_place(texts: list[str]) -> None:
    found = documents(*texts)
    left, dropped = clean(found, CleanConfig([ENDS, TWICE]))
    expected: dict[str, int] = {}
    for index, text in enumerate(texts):
        expected.setdefault("\n".join(text.split("\r\n")), index)
    assert [(d.text, d.index) for d in left] == list(expected.items())
    assert [(d.source, d.file, d.start, d.end) for d in left] == [
        (d.source, d.file, d.start, d.end) for d in found if d.index in expected.values()
    ]
    assert dropped == {ENDS: 0, TWICE: len(texts) - len(expected)}
    assert [d.text for d in found] == texts


def test_equal_texts_are_kept_once() -> None:
    left, dropped = clean(documents(*(f"t {i % 40}" for i in range(120))), CleanConfig([TWICE]))
    parts = split_documents(left, SplitConfig(val_fraction=0.2, test_fraction=0.2, min_documents=0))
    texts = [d.text for docs in parts.values() for d in docs]
    assert dropped == {TWICE: 80}
    assert sorted(texts) == sorted({f"t {i}" for i in range(40)})


def test_a_step_of_ones_own_is_an_installed_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="found 'only-short'"):
        CleanConfig(["only-short"])
    code = "def MEMBER(documents):\n    return [d for d in documents if len(d.text) < 4]\n"
    install(tmp_path, "pipeline.corpus.steps", "only-short", code)
    monkeypatch.syspath_prepend(str(tmp_path))
    left, dropped = clean(documents("long text", "two", "two"), CleanConfig(["only-short", TWICE]))
    assert [d.text for d in left] == ["two"]
    assert dropped == {"only-short": 1, TWICE: 1}
    assert STEPS.names()[-1] == "only-short"


def test_an_unknown_step_is_refused_by_name() -> None:
    assert {ENDS, TWICE} <= set(STEPS.names())
    with pytest.raises(
        ValueError, match=r"steps: expected .*exact-duplicates.*line-ends.*, found 'spelling', 'magic'$"
    ):
        CleanConfig([ENDS, "spelling", "magic"])

"""Token files and streams behind a manifest that fits: their form is checked all the same."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gptcore.errors import DataError
from pipeline.store.tokens import TokenDocument, Tokens, write_tokens
from pipeline.store.windows import Windows, write_stream

N_VOCAB = 10
DOCUMENTS = [
    TokenDocument(f"a/{i}", "a", "a/a.txt", 10 * i, 10 * i + 9, "0" * 64, np.arange(i + 1, dtype=np.uint32))
    for i in range(3)
]


def tokens(path: Path, change: Callable[[pa.Table], pa.Table]) -> Tokens:
    with Tokens.create(path, {"n_vocab": N_VOCAB, "eot": N_VOCAB - 1}) as draft:
        write_tokens(draft, "train", DOCUMENTS)
        file = draft / "train-00000.parquet"
        pq.write_table(change(pq.read_table(file)), file)
    return Tokens.open(path)


def with_column(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(name)
        return table.set_column(at, name, pa.array(values, table.schema.field(at).type))

    return change


def as_often(n: int) -> Callable[[pa.Table], pa.Table]:
    """One row of ``n`` equal ids, which pack to nothing."""

    def change(table: pa.Table) -> pa.Table:
        ids = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), pa.repeat(pa.scalar(7, pa.uint32()), n))
        return with_column("n_tokens", [n])(table.slice(0, 1)).set_column(7, "ids", ids)

    return change


def test_good_rows_come_back(tmp_path: Path) -> None:
    found = tokens(tmp_path / "tokens", lambda table: table).documents("train")
    assert [(row.doc_id, row.ids.tolist()) for row in found] == [(row.doc_id, row.ids.tolist()) for row in DOCUMENTS]
    assert len(tokens(tmp_path / "much", as_often(10_000_000)).documents("train")[0].ids) == 10_000_000
    assert tokens(tmp_path / "none", lambda table: table.slice(0, 0)).documents("train") == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (with_column("ids", [[0], None, [1]]), "none in a row of column ids"),
        (with_column("ids", [[0], [0, None], [0, 1, 2]]), "none in a row of column ids"),
        (with_column("doc_id", ["a", None, "b"]), "none in a row of column doc_id"),
        (with_column("ids", [[0], [0], [0, 1, 2]]), "row 1, column n_tokens: expected the number of ids, found 2"),
        (with_column("start", [0, 10, -1]), "row 2, column start: expected at least 0, found -1"),
        (with_column("end", [9, 10, 29]), "row 1, column end: expected more than start, found 10"),
        (with_column("ids", [[0], [0, N_VOCAB], [0, 1, 2]]), "expected ids below 10, found 10"),
        (lambda table: table.drop_columns(["end"]), "expected the columns"),
        (as_often(100_000_000), "more than 1000 times; refused as a decompression bomb"),
    ],
)
def test_rows_that_are_none_are_refused(tmp_path: Path, change: Callable[[pa.Table], pa.Table], complaint: str) -> None:
    with pytest.raises(DataError, match=rf"train-00000\.parquet.*{complaint}"):
        tokens(tmp_path / "tokens", change).documents("train")


def windows(path: Path, content: bytes | np.ndarray | None = None) -> np.ndarray:
    with Windows.create(path, {"n_vocab": N_VOCAB}) as draft:
        write_stream(draft, "train", DOCUMENTS, N_VOCAB - 1)
        if isinstance(content, np.ndarray):
            np.save(draft / "train.npy", content)
        elif content is not None:
            (draft / "train.npy").write_bytes(content)
    return Windows.open(path).stream("train")


def archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3, np.uint16))
    return stream.getvalue()


def test_a_good_stream_comes_back(tmp_path: Path) -> None:
    assert windows(tmp_path / "windows").tolist() == [9, 0, 9, 0, 1, 9, 0, 1, 2, 9]


@pytest.mark.parametrize(
    "content",
    [
        np.array([1.0, 2.0]),
        np.array([1, 2], np.int64),
        np.array([1, 2], ">u2"),
        np.array([[1, 2]], np.uint16),
        np.array(1, np.uint16),
        np.array([1, N_VOCAB], np.uint16),
        archive(),
        b"\x93NUMPY\1\0\2\0{\n",
        b"\x93NUMPY\1\0\x88\x13" + b"(" * 5000,
        b"",
    ],
    ids=lambda content: f"{type(content).__name__}-{len(content) if isinstance(content, bytes) else content.dtype}",
)
def test_a_stream_that_is_none_is_refused(tmp_path: Path, content: bytes | np.ndarray) -> None:
    with pytest.raises(DataError, match=r"train\.npy: expected "):
        windows(tmp_path / "windows", content)

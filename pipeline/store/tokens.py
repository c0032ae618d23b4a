"""Token ids as Parquet: one row a document, without end-of-text, a file a split.

A Parquet file's bytes depend on the version of pyarrow that wrote it.  The content hash of a token
directory is therefore taken over its rows; the file hashes in the manifest catch damage.  After them every reader
checks the form: schema, no cell empty, ids below the vocabulary's size, as many as their row says, page checksums; and
before it reads, that the file unpacks to no more than text can (a few kilobytes may announce a hundred million ids).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gptcore.errors import DataError
from pipeline.store.artifact import Artifact

_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("sha256", pa.string()),
        ("n_tokens", pa.int64()),
        ("ids", pa.list_(pa.uint32())),
    ]
)

MAX_RATIO, SMALL_BYTES = 1000, 1 << 16
"""A file that unpacks to more than this many times its size is a decompression bomb, smaller ones counted as if they
had these bytes; ids of text reach 3, those of one letter repeated a few hundred."""


@dataclass(frozen=True)
class TokenDocument:
    """One row of the token Parquet."""

    doc_id: str
    """``source/index``."""
    source: str
    file: str
    """The raw file, relative to ``data/raw``."""
    start: int
    """First byte of the document in the raw file."""
    end: int
    """The byte after its last."""
    sha256: str
    """Of the cleaned text in UTF-8."""
    ids: np.ndarray
    """Token ids (n,) uint32, without end-of-text."""


class Tokens(Artifact):
    KIND = "tokens"

    @property
    def n_vocab(self) -> int:
        return int(self.fact("n_vocab"))

    @property
    def eot(self) -> int:
        """The id that separates documents."""
        return int(self.fact("eot"))

    @property
    def tokenizer(self) -> str:
        """Fingerprint of the vocabulary."""
        return str(self.fact("tokenizer"))

    def documents(self, split: str) -> list[TokenDocument]:
        """The documents of one split, in the order in which they were written."""
        documents: list[TokenDocument] = []
        for path in sorted(self.path.glob(f"{split}-*.parquet")):
            table = _read_table(path)
            _check_ids(path, table, self.n_vocab)
            ids = table["ids"].combine_chunks()
            values, offsets = ids.values.to_numpy(), ids.offsets.to_numpy()
            names = [name for name in _SCHEMA.names if name not in ("n_tokens", "ids")]
            rows = table.select(names).to_pylist()
            documents += [
                TokenDocument(**row, ids=values[begin:end])
                for row, begin, end in zip(rows, offsets[:-1], offsets[1:], strict=True)
            ]
        return documents


def write_tokens(directory: Path, split: str, documents: Sequence[TokenDocument]) -> None:
    columns = {
        "doc_id": [d.doc_id for d in documents],
        "source": [d.source for d in documents],
        "file": [d.file for d in documents],
        "start": [d.start for d in documents],
        "end": [d.end for d in documents],
        "sha256": [d.sha256 for d in documents],
        "n_tokens": [len(d.ids) for d in documents],
        "ids": [d.ids for d in documents],
    }
    table = pa.table(columns, schema=_SCHEMA)
    pq.write_table(table, directory / f"{split}-00000.parquet", compression="zstd", write_page_checksum=True)


def tokens_content_hash(directory: Path) -> str:
    """sha256 over the rows of all splits: independent of pyarrow's version."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.parquet")):
        digest.update(path.name.encode())
        for row in _read_table(path).to_pylist():
            digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def _read_table(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_size(path, file.metadata)
            table = file.read()
    except (OSError, pa.ArrowException, ValueError, OverflowError, MemoryError) as error:
        raise DataError(f"{path}: damaged or no Parquet file: {error}") from None
    if table.schema.names != _SCHEMA.names or table.schema.types != _SCHEMA.types:
        raise DataError(f"{path}: expected the columns {_SCHEMA.names}, found {table.schema.names}")
    _check_rows(path, table)
    return table


def _check_size(path: Path, metadata: pq.FileMetaData) -> None:
    """Four bytes a value at least: what the footer announces is what the pages must hold."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = sum(group.column(j).num_values for group in groups for j in range(group.num_columns))
    size = path.stat().st_size
    if 4 * values > MAX_RATIO * max(size, SMALL_BYTES):
        raise DataError(
            f"{path}: unpacks from {size} to more than {4 * values} bytes, more than {MAX_RATIO} times; "
            "refused as a decompression bomb"
        )


def _check_rows(path: Path, table: pa.Table) -> None:
    """Every cell filled, a span that is one, as many ids as ``n_tokens`` says."""
    empty = [name for name in table.schema.names if table[name].null_count]
    if empty or table["ids"].combine_chunks().values.null_count:
        raise DataError(f"{path}: expected a value in each cell, found none in a row of column {[*empty, 'ids'][0]}")
    wrong = [
        ("n_tokens", "the number of ids", pc.not_equal(table["n_tokens"], pc.list_value_length(table["ids"]))),
        ("start", "at least 0", pc.less(table["start"], 0)),
        ("end", "more than start", pc.less_equal(table["end"], table["start"])),
    ]
    for name, expected, rows in wrong:
        if (row := rows.index(True).as_py()) >= 0:
            raise DataError(f"{path}, row {row}, column {name}: expected {expected}, found {table[name][row]}")


def _check_ids(path: Path, table: pa.Table, n_vocab: int) -> None:
    for group, chunk in enumerate(table["ids"].chunks):
        values = chunk.values.to_numpy()
        if len(values) and int(values.max()) >= n_vocab:
            raise DataError(
                f"{path}, row group {group}, column ids: expected ids below {n_vocab}, found {values.max()}"
            )

"""What lies on disk between two stages: token Parquet, window streams, checkpoints.

Each format has one writer and one reader here, so producer and consumer can't drift apart.  Every reader
checks the directory's manifest first (`gptcore.artifact`) and then the form: schema, ids below the
vocabulary's size, page checksums.

Tokens are one Parquet row a document, without end-of-text; windows are one flat stream a split, documents
separated by end-of-text, with an index of where each begins.  The streams are ``.npy`` files:
memory-mapped, typed, and refused by NumPy if they hold anything but numbers.

A Parquet file's bytes depend on the version of pyarrow that wrote it.  The content hash of a token
directory is therefore taken over its rows; the file hashes in the manifest catch damage.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gptcore.artifact import Manifest, open_verified, write_json
from gptcore.errors import DataError

SPLITS = ("train", "val", "test")
TOKENS, WINDOWS, CHECKPOINT = "tokens", "windows", "checkpoint"

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


def read_tokens(tokens: Path, split: str) -> list[TokenDocument]:
    """The documents of one split, in the order in which they were written."""
    manifest = open_verified(tokens, TOKENS)
    documents: list[TokenDocument] = []
    for path in sorted(tokens.glob(f"{split}-*.parquet")):
        table = _read_table(path)
        _check_ids(path, table, int(manifest.config["n_vocab"]))
        ids = table["ids"].combine_chunks()
        values, offsets = ids.values.to_numpy(), ids.offsets.to_numpy()
        names = [name for name in _SCHEMA.names if name not in ("n_tokens", "ids")]
        rows = table.select(names).to_pylist()
        documents += [
            TokenDocument(**row, ids=values[begin:end])
            for row, begin, end in zip(rows, offsets[:-1], offsets[1:], strict=True)
        ]
    return documents


def tokens_content_hash(directory: Path) -> str:
    """sha256 over the rows of all splits: independent of pyarrow's version."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.parquet")):
        digest.update(path.name.encode())
        for row in _read_table(path).to_pylist():
            digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def write_stream(directory: Path, split: str, documents: Sequence[TokenDocument], eot: int) -> int:
    """One stream: end-of-text before each document and after the last; returns its tokens."""
    dtype = np.uint16 if eot < 2**16 else np.uint32
    separator = np.array([eot], dtype=dtype)
    pieces = [piece for d in documents for piece in (separator, d.ids.astype(dtype))]
    stream = np.concatenate([*pieces, separator]) if documents else np.array([], dtype=dtype)
    starts = np.cumsum([0] + [len(d.ids) + 1 for d in documents])[:-1] + 1
    np.save(directory / f"{split}.npy", stream)
    np.save(directory / f"{split}-starts.npy", starts.astype(np.int64))
    write_json(directory / f"{split}-documents.json", [d.doc_id for d in documents])
    return len(stream)


def open_stream(windows: Path, split: str) -> np.ndarray:
    """The memory-mapped token stream (n,) of one split."""
    path = windows / f"{split}.npy"
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a stream of token ids: {error}") from None


def checkpoint_facts(directory: Path) -> Manifest:
    """The verified manifest of a checkpoint; ``config["stage"]`` names the stage that made it."""
    manifest = open_verified(directory, CHECKPOINT)
    if "stage" not in manifest.config:
        raise DataError(f"{directory}: the manifest names no stage; run the stage that makes it again")
    return manifest


def as_plain(config: Any) -> Any:
    """A dataclass, or a dictionary of them, as plain data for manifests and trackers."""
    if isinstance(config, Mapping):
        return {name: as_plain(value) for name, value in config.items()}
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _read_table(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: damaged or no Parquet file: {error}") from None
    if table.schema.names != _SCHEMA.names or table.schema.types != _SCHEMA.types:
        raise DataError(f"{path}: expected the columns {_SCHEMA.names}, found {table.schema.names}")
    return table


def _check_ids(path: Path, table: pa.Table, n_vocab: int) -> None:
    for group, chunk in enumerate(table["ids"].chunks):
        values = chunk.values.to_numpy()
        if len(values) and int(values.max()) >= n_vocab:
            raise DataError(
                f"{path}, row group {group}, column ids: expected ids below {n_vocab}, found {values.max()}"
            )

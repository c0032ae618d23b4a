"""Windows: one flat token stream a split, documents separated by end-of-text, with an index of where each begins.

The streams are ``.npy`` files: memory-mapped, typed, and opened as nothing but an array (``np.load`` would take an
archive or a pickle by its first bytes).  A manifest says that a file is the one that was written, not by whom: the
form is checked as well, and whoever trains on a stream reads it once more, at the memory's speed, to know that every
id is one of the vocabulary; a row that the embedding hasn't would end a training in the middle.  The windows
themselves are not written: with the stream, the context and the stride each is a slice.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np

from gptcore.artifact import write_json
from gptcore.errors import DataError
from pipeline.store.artifact import Artifact
from pipeline.store.tokens import TokenDocument


class Windows(Artifact):
    KIND = "windows"

    @property
    def context_length(self) -> int:
        """Tokens of a window."""
        return int(self.fact("context_length"))

    @property
    def stride(self) -> int:
        """Tokens from the start of one window to the next."""
        return int(self.fact("stride"))

    @property
    def tokenizer(self) -> str:
        """Fingerprint of the vocabulary."""
        return str(self.fact("tokenizer"))

    @property
    def n_vocab(self) -> int:
        return int(self.fact("n_vocab"))

    def stream(self, split: str) -> np.ndarray:
        """The memory-mapped token stream (n,) of one split, every id below ``n_vocab``."""
        stream = open_stream(self.path, split)
        if len(stream) and (largest := int(stream.max())) >= self.n_vocab:
            raise DataError(
                f"{self.path / split}.npy: expected ids below {self.n_vocab}, found {largest}; "
                "run the stage that makes it again"
            )
        return stream

    def documents_in(self, split: str, start: int, end: int) -> list[str]:
        """Ids of the documents that the tokens from ``start`` up to ``end`` of a split's stream belong to."""
        starts = np.load(self.path / f"{split}-starts.npy")  # (documents,), ascending
        ids = json.loads((self.path / f"{split}-documents.json").read_text(encoding="utf-8"))
        first = int(np.searchsorted(starts, start, side="right")) - 1
        return [str(name) for name in ids[max(0, first) : int(np.searchsorted(starts, end))]]


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
        stream: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except _UNREADABLE as error:
        raise DataError(f"{path}: expected a stream of token ids: {error}") from None
    if stream.ndim != 1 or stream.dtype not in _ID_TYPES:
        raise DataError(
            f"{path}: expected one row of ids in {' or '.join(kind.__name__ for kind in _ID_TYPES)}, found an array of "
            f"shape {stream.shape} in {stream.dtype}; run the stage that makes it again"
        )
    return stream


_ID_TYPES = (np.uint16, np.uint32)
_UNREADABLE = (OSError, ValueError, TypeError, OverflowError, SyntaxError, TokenError, RecursionError, MemoryError)
"""What NumPy raises on a header that is none; it parses it as Python's literals."""

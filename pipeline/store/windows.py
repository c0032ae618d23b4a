"""Windows: one flat token stream a split, documents separated by end-of-text, with an index of where each begins.

The streams are ``.npy`` files: memory-mapped, typed, and refused by NumPy if they hold anything but numbers.  The
windows themselves are not written: with the stream, the context and the stride each is a slice.
"""

import json
from collections.abc import Sequence
from pathlib import Path

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

    def stream(self, split: str) -> np.ndarray:
        """The memory-mapped token stream (n,) of one split."""
        return open_stream(self.path, split)

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
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a stream of token ids: {error}") from None

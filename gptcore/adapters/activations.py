"""What frozen blocks compute of each row of the data, on disk: computed once, read in every epoch.

Two files.  ``activations`` has the numbers of all rows, the shortest row first, without padding; ``sums`` a sha256 a
*piece*, which is some neighbouring rows that are computed as one batch.  A piece counts only if its sum says so.  So a
process killed anywhere goes on with the next piece, a flipped bit costs one piece, and files of other weights or rows
are no more than so many pieces to compute: the sum covers a ``key`` that names them.  Where each row lies follows from
the rows' lengths, so there is nothing to index.

Memory is flat: a piece is at most ``PIECE_TOKENS`` tokens or one row, and a batch reads its own rows only.  The disk's
room is checked and taken before the first piece.  Nothing is synced: after a power cut the sums tell.  Opening hashes
everything (1 to 2 GB/s); reading a batch of 16 · 128 tokens of width 256 takes 0.7 ms from the system's cache.

Rejected: a memory map (its pages count as the process's memory, and a file that is cut short kills it without a word),
a file a piece (thousands of them), bfloat16 (half the room, another loss), and a sum for every read (the disk's own
checks are for that; a training reads what it has verified minutes ago).
"""

import errno
import hashlib
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gptcore.errors import DataError, DiskError, disk_errors
from gptcore.machine.units import in_bytes

PIECE_TOKENS = 4096
"""Of a piece, its padding included."""
_DATA, _SUMS, _SUM_BYTES = "activations", "sums", 32


class Activations:
    """Float32 numbers (T, C) of each of so many rows in ``directory``; ``width`` is C, ``lengths`` are the T."""

    def __init__(self, directory: Path, lengths: Sequence[int], width: int, key: str) -> None:
        self.directory, self.width, self.key = Path(directory), width, key
        self.lengths = np.asarray(lengths)
        order = np.argsort(self.lengths, kind="stable")
        self.pieces = list(_pieces(order.tolist(), self.lengths))
        """The rows of each."""
        token = 4 * width
        self._starts = np.zeros(len(order), dtype=np.int64)  # byte at which each row begins
        self._starts[order] = token * (np.cumsum(self.lengths[order]) - self.lengths[order])
        self.size = token * int(self.lengths.sum())
        """Bytes of them all."""

    def open(self, remedy: str = "make space") -> list[int]:
        """Take the disk's room, verify what is there; returns the pieces that are to be computed.

        Raises ``DiskError`` where the disk can't hold them; ``remedy`` is what to do then.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with disk_errors(self._data), open(self._data, "ab") as data, open(self._sums, "ab") as sums:
            self._check_room(os.fstat(data.fileno()).st_blocks * 512, remedy)
            os.ftruncate(data.fileno(), self.size)
            os.ftruncate(sums.fileno(), _SUM_BYTES * len(self.pieces))
            _take_room(data.fileno(), self.size)
        return self._missing()

    def write(self, piece: int, rows: Tensor) -> None:
        """Put in what was computed of the rows of a piece, (n, ≥ longest, C) in their order, padded on the right."""
        members = self.pieces[piece]
        parts = [_bytes(row[: self.lengths[i]].float()) for row, i in zip(rows, members, strict=True)]
        with disk_errors(self._data), open(self._data, "r+b") as data, open(self._sums, "r+b") as sums:
            data.seek(self._starts[members[0]])
            data.writelines(parts)
            sums.seek(_SUM_BYTES * piece)
            sums.write(self._sum(parts))

    def read(self, rows: Sequence[int], length: int) -> Tensor:
        """What was computed of these rows (B, length, C), zero where they are shorter."""
        batch = torch.zeros(len(rows), length, self.width)
        with disk_errors(self._data), open(self._data, "rb", buffering=0) as data:
            for target, row in zip(batch, rows, strict=True):
                wanted = _bytes(target[: self.lengths[row]])
                data.seek(self._starts[row])
                if data.readinto(wanted) != len(wanted):
                    raise DataError(f"{self._data}: ended within row {row}; delete {self.directory} and run it again")
        return batch

    def _missing(self) -> list[int]:
        missing, damaged = list[int](), 0
        with open(self._data, "rb") as data, open(self._sums, "rb") as sums:
            for piece, members in enumerate(self.pieces):
                size = 4 * self.width * int(self.lengths[members].sum())
                expected, content = sums.read(_SUM_BYTES), data.read(size)
                if expected != self._sum([content]):
                    missing.append(piece)
                    damaged += any(expected)
        if damaged:
            warnings.warn(
                f"{self._data}: {damaged:,} of {len(self.pieces):,} pieces are damaged or of other rows or weights; "
                "they are computed again",
                stacklevel=3,
            )
        return missing

    def _sum(self, parts: Sequence[bytes | memoryview]) -> bytes:
        digest = hashlib.sha256(self.key.encode())
        for part in parts:
            digest.update(part)
        return digest.digest()

    def _check_room(self, taken: int, remedy: str) -> None:
        free = shutil.disk_usage(self.directory).free + taken
        if self.size > free:
            raise DiskError(
                f"{self.directory}: the activations of {len(self.lengths):,} rows take {in_bytes(self.size)}, and "
                f"{in_bytes(free)} are free; {remedy}"
            )

    @property
    def _data(self) -> Path:
        return self.directory / _DATA

    @property
    def _sums(self) -> Path:
        return self.directory / _SUMS


def _pieces(order: Sequence[int], lengths: np.ndarray) -> Iterator[list[int]]:
    """Neighbours in ``order``, shortest first, as many as ``PIECE_TOKENS`` hold, one at least."""
    piece = list[int]()
    for row in order:
        if piece and (len(piece) + 1) * lengths[row] > PIECE_TOKENS:
            yield piece
            piece = []
        piece.append(row)
    if piece:
        yield piece


def _take_room(descriptor: int, size: int) -> None:
    """Have the file's blocks, where the system can: a full disk is met here, not after hours."""
    if not hasattr(os, "posix_fallocate") or not size:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # what some file systems say of the call itself
            raise


def _bytes(tensor: Tensor) -> memoryview:
    """The numbers' memory itself."""
    return tensor.detach().contiguous().numpy().data.cast("B")

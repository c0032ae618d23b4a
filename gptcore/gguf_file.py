"""GGUF, llama.cpp's one file for a model: its header, and its tensors as numbers.

The header (facts, names, shapes, types) is read here, within bounds, before anything is taken from it: counts and
lengths are held against the file's size first.  What a type of block means is the package `gguf`'s to know, which
comes from llama.cpp itself; every type that it can turn into numbers is read, a tensor at a time.

Rejected: the package's own reader, which believes the counts in a header and keeps all of it as arrays (a file of
100 MB can ask for ten gigabytes), and our own tables of two dozen ways to pack numbers.
"""

import mmap
import struct
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gptcore.errors import DataError
from gptcore.untrusted import MB, open_plain, shown

VERSIONS = (2, 3)
MOST_FACTS, MOST_TENSORS, MOST_VALUES, LONGEST_TEXT, MOST_DEPTH = 4_096, 32_768, 2**21, 4 * MB, 2
"""Of a header; a vocabulary of 256,000 ids has 800,000 values, a chat template 10 kB."""
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT, _TEXT, _LIST = 6, 8, 9


class Block(NamedTuple):
    """A tensor as the header describes it."""

    shape: tuple[int, ...]
    """As PyTorch says it: the slowest axis first."""
    kind: str
    """F32, Q4_1, …; a number that the package doesn't know as it is."""
    start: int
    """Its first byte in the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Gguf:
    """The header of an intact file."""

    path: Path
    facts: dict[str, Any]
    tensors: dict[str, Block]

    def get_tensor(self, name: str) -> Tensor:
        """As float32, whatever its type."""
        from gguf import GGMLQuantizationType, dequantize

        block = self.tensors[name]
        packed = np.memmap(self.path, np.uint8, "r", block.start, (block.size,))
        rows = packed.reshape(*block.shape[:-1], -1) if block.shape else packed
        numbers = dequantize(rows, GGMLQuantizationType[block.kind])
        return torch.from_numpy(np.array(numbers, np.float32)).view(block.shape)


def read_gguf(path: Path) -> Gguf:
    """The header at ``path``; raises ``DataError`` for what isn't a whole GGUF file."""
    try:
        with open_plain(path) as file:
            size = file.seek(0, 2)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else nullcontext(b"") as content:
                return _Reader(content, size, path).header()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: missing") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: damaged or not a GGUF file: {error}") from None


class _Reader:
    """One pass over a header."""

    def __init__(self, content: mmap.mmap | bytes, size: int, path: Path) -> None:
        self.content, self.size, self.path = content, size, path
        self.at = self.values = 0

    def header(self) -> Gguf:
        if (magic := self._bytes(4)) != b"GGUF":
            raise ValueError(f"expected it to begin with GGUF, found {shown(magic)}")
        if (version := self._number("I")) not in VERSIONS:
            raise ValueError(f"expected version {' or '.join(map(str, VERSIONS))}, found {version}")
        tensors = self._count("Q", MOST_TENSORS, "tensors")
        facts: dict[str, Any] = {}
        for _ in range(self._count("Q", MOST_FACTS, "facts")):
            self._put(facts, self._text(), lambda: self._value(self._number("I")))
        described: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(tensors):
            self._put(described, self._text(), self._description)
        alignment = facts.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= MB:
            raise ValueError(f"general.alignment = {shown(alignment)}: expected a number of bytes")
        begin = -(-self.at // alignment) * alignment
        return Gguf(self.path, facts, {name: self._placed(name, begin, *d) for name, d in described.items()})

    def _put(self, fields: dict[str, Any], name: str, value: Callable[[], Any]) -> None:
        if name in fields:
            raise ValueError(f"{shown(name)} stands twice")
        fields[name] = value()

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == _FLOAT:
            return float(str(np.float32(self._number("f"))))  # 1e-05 again, which float32 makes 9.999999747378752e-06
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _TEXT:
            return self._text()
        if kind != _LIST or depth == MOST_DEPTH:
            raise ValueError(f"expected a type of value, found {kind} at byte {self.at:,}")
        kind, count = self._number("I"), self._count("Q", MOST_VALUES, "values of a list")
        self.values += count
        if self.values > MOST_VALUES:
            raise ValueError(f"expected at most {MOST_VALUES:,} values, found more")
        if kind in _NUMBERS:
            size = struct.calcsize(f"<{_NUMBERS[kind]}")
            return list(struct.unpack(f"<{count}{_NUMBERS[kind]}", self._bytes(count * size)))
        if kind == _TEXT:
            return self._texts(count)
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _texts(self, count: int) -> list[str]:
        """As ``_text`` so often, in a third of the time: a vocabulary has 100,000."""
        content, at, size, found = self.content, self.at, self.size, []
        for _ in range(count):
            begin = at + 8
            at = begin + int.from_bytes(content[at:begin], "little")
            if at > size or begin > size:
                raise ValueError(f"it ends within its header, at byte {size:,}")
            found.append(content[begin:at].decode("utf-8"))
        self.at = at
        return found

    def _description(self) -> tuple[tuple[int, ...], int, int]:
        shape = tuple(self._number("Q") for _ in range(self._count("I", 4, "axes")))
        return shape[::-1], self._number("I"), self._number("Q")

    def _placed(self, name: str, begin: int, shape: tuple[int, ...], kind: int, offset: int) -> Block:
        word, values, size = _packing().get(kind, (str(kind), 1, 0))
        numbers = 1
        for side in shape:
            numbers *= side
        if shape and shape[-1] % values:
            raise ValueError(f"{shown(name)}: expected rows of whole blocks of {values} numbers, found {shape}")
        length = numbers // values * size
        if begin + offset + length > self.size:
            raise ValueError(f"{shown(name)}: expected {length:,} bytes at {begin + offset:,}, the file ends before")
        return Block(shape, word, begin + offset, length)

    def _count(self, form: str, most: int, what: str) -> int:
        if (found := self._number(form)) > most:
            raise ValueError(f"expected at most {most:,} {what}, found {found:,}")
        return found  # type: ignore[no-any-return]

    def _number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}")))[0]

    def _text(self) -> str:
        return self._bytes(self._count("Q", LONGEST_TEXT, "bytes of a text")).decode("utf-8")

    def _bytes(self, count: int) -> bytes:
        begin = self.at
        if count > self.size - begin:
            raise ValueError(f"it ends within its header, at byte {self.size:,}")
        self.at += count
        return self.content[begin : self.at]


@cache
def _packing() -> dict[int, tuple[str, int, int]]:
    """Type → (its name, numbers in a block, bytes of a block)."""
    from gguf.constants import GGML_QUANT_SIZES

    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}


@cache
def readable(kind: str) -> bool:
    """Whether the package turns this type of block into numbers."""
    from gguf import GGMLQuantizationType, dequantize

    sizes = {word: size for word, _, size in _packing().values()}
    if kind not in sizes:
        return False
    try:
        dequantize(np.zeros((1, sizes[kind]), np.uint8), GGMLQuantizationType[kind])
    except NotImplementedError:
        return False
    return True

"""Token streams that mean harm: ``.npy`` files, changed in one way that is drawn from a seed."""

import io
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults.hostile_directory import Touch

Spoil = Callable[[random.Random, Path], str]
"""Changes a file and says how."""


def header_changed(rng: random.Random, path: Path) -> str:
    """Another type of numbers, shape or order than the bytes have; code in place of the dictionary."""
    n = len(np.load(path))
    header = rng.choice(
        (_said("'|O'", f"({n},)"), _said("'<f8'", f"({n // 4},)"), _said("'<i2'", f"({n},)"), _said("'>u2'", f"({n},)"),
         _said("'|u1'", f"({2 * n},)"), _said("'|S2'", f"({n},)"), _said("[('a', '<u2')]", f"({n},)"),
         _said("'<M8[s]'", f"({n // 4},)"), _said("'<u2'", f"({n // 2}, 2)", "True"), _said("'<u2'", "()"),
         _said("'<u2'", f"({10**18},)"), _said("'<u2'", f"({2**32}, {2**32})"), _said("'<u2'", "(-1,)"),
         _said("'<u2'", "(True,)"), _said("'<u2'", "'x'"), _said("''", f"({n},)"), _said("'<u2'", f"({n},)", "'x'"),
         _said("('<u2', (1000000, 1000000))", "(1,)"), "{'descr': '<u2', 'fortran_order': False}",
         "__import__('os').system('true')", "[]", "", "{", "(" * 5_000 + ")" * 5_000, "-" * 50_000 + "1", "{" * 1_000)
    )  # fmt: skip
    return _framed(path, header.encode("latin-1"), f"header {header[:60]!r}")


def header_length_changed(rng: random.Random, path: Path) -> str:
    content = path.read_bytes()
    length = rng.choice((0, 1, 65535, len(content)))
    path.write_bytes(content[:8] + struct.pack("<H", min(length, 65535)) + content[10:])
    return f"a header of {length} bytes"


def version_changed(rng: random.Random, path: Path) -> str:
    content = path.read_bytes()
    version = rng.choice((b"\0\0", b"\2\0", b"\3\0", b"\4\0", b"\xff\xff"))
    path.write_bytes(content[:6] + version + content[8:])
    return f"version {version!r}"


def objects(rng: random.Random, path: Path) -> str:
    """A pickle, as NumPy stores arrays of objects: reading it would run code."""
    evil = pickle.dumps(Touch.beside(path))
    if rng.random() < 0.5:
        path.write_bytes(evil)
        return "a pickle"
    return _framed(path, b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "an object", evil)


def archive(rng: random.Random, path: Path) -> str:
    """``np.load`` opens archives of arrays as well."""
    stream = io.BytesIO()
    np.savez(stream, a=np.load(path))
    path.write_bytes(stream.getvalue())
    return "an archive"


def bytes_changed(rng: random.Random, path: Path) -> str:
    """Of the header."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 8))):
        content[rng.randrange(128)] = rng.randrange(256)
    path.write_bytes(content)
    return "bytes of the header changed"


def cut_short(rng: random.Random, path: Path) -> str:
    content = path.read_bytes()
    left = rng.randrange(len(content))
    path.write_bytes(content[:left])
    return f"all but {left} bytes cut"


def ids_out_of_range(rng: random.Random, path: Path) -> str:
    stream = np.load(path)
    stream[rng.randrange(len(stream))] = rng.choice((300, 5_000, 65_535))
    np.save(path, stream)
    return "an id that the vocabulary hasn't"


def other_numbers(rng: random.Random, path: Path) -> str:
    """Saved by NumPy as such: floats, signed, many dimensions, 64 bits."""
    stream = np.load(path)
    kind = rng.choice(("f8", "i8", "u8", "i4", "c16", "?", "2-d", "0-d"))
    changed = {"2-d": stream[:4].reshape(2, 2), "0-d": stream[0]}.get(kind)
    np.save(path, stream.astype(kind) if changed is None else changed)
    return f"numbers of type {kind}"


SPOILERS: tuple[Spoil, ...] = (
    header_changed, bytes_changed, ids_out_of_range, header_changed, other_numbers, objects, cut_short, header_changed,
    header_length_changed, archive, version_changed, header_changed,
)  # fmt: skip
MUST_BE_REFUSED: tuple[Spoil, ...] = (ids_out_of_range, other_numbers, objects, archive)


def _said(kind: str, shape: str, turned: str = "False") -> str:
    return f"{{'descr': {kind}, 'fortran_order': {turned}, 'shape': {shape}, }}"


def _framed(path: Path, header: bytes, what: str, numbers: bytes | None = None) -> str:
    content = path.read_bytes()
    (length,) = struct.unpack("<H", content[8:10])
    numbers = content[10 + length :] if numbers is None else numbers
    if len(header) < 60_000:
        header = header.ljust(-(-(len(header) + 11) // 64) * 64 - 11) + b"\n"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + numbers)
    return what

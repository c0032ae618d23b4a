"""What a disk, a cable or a careless hand does to files, each fault drawn from a seed.

Every function damages one file (``exchange`` two) among those given and says what it did, naming the file last.
"""

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Damage:
    """What was done."""

    what: str
    """In words, without the file: ``bit 3 of byte 17``."""
    files: tuple[Path, ...]
    """Whom a message may name: one is enough."""

    def __str__(self) -> str:
        return f"{self.what} of {' and '.join(path.name for path in self.files)}"


Do = Callable[[random.Random, Sequence[Path]], Damage]


def flip(rng: random.Random, files: Sequence[Path], keep_times: bool = False) -> Damage:
    """Turn one bit.

    With ``keep_times`` the file's times stay what they were, as on a disk that rots: nothing has written.
    """
    path = _drawn(rng, files)
    at, bit = rng.randrange(path.stat().st_size), rng.randrange(8)
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return Damage(f"bit {bit} of byte {at}", (path,))


def truncate(rng: random.Random, files: Sequence[Path]) -> Damage:
    """Cut the end off, at most all of it."""
    path = _drawn(rng, files)
    left = rng.randrange(path.stat().st_size)
    os.truncate(path, left)
    return Damage(f"all but {left} bytes cut", (path,))


def append(rng: random.Random, files: Sequence[Path]) -> Damage:
    """Add some bytes: zeros, as a file system may after a power cut, or any."""
    path = _drawn(rng, files)
    n = rng.choice((1, 2, 512, 4096))
    with open(path, "ab") as file:
        file.write(bytes(n) if rng.random() < 0.5 else rng.randbytes(n))
    return Damage(f"{n} bytes after the end", (path,))


def zero(rng: random.Random, files: Sequence[Path]) -> Damage:
    """Blank a stretch that isn't blank, the length kept: a block that never reached the disk."""
    path = _drawn(rng, files)
    content = bytearray(path.read_bytes())
    at = rng.choice([i for i, byte in enumerate(content[: 1 << 16]) if byte])
    content[at : at + 4096] = bytes(len(content[at : at + 4096]))
    path.write_bytes(content)
    return Damage(f"zeros from byte {at}", (path,))


def remove(rng: random.Random, files: Sequence[Path]) -> Damage:
    path = _drawn(rng, files)
    path.unlink()
    return Damage("removal", (path,))


def exchange(rng: random.Random, files: Sequence[Path]) -> Damage:
    """Let two files that differ change places; with one file alone, its two halves do."""
    one = _drawn(rng, files)
    others = [path for path in files if path != one and path.read_bytes() != one.read_bytes()]
    if not others:
        return _turned(one)
    other = rng.choice(others)
    aside = one.with_name(f"{one.name}.aside")
    shutil.move(one, aside)
    shutil.move(other, one)
    shutil.move(aside, other)
    return Damage("exchange", (one, other))


LARGER: tuple[Do, ...] = (truncate, append, zero, remove, exchange)
"""Every damage but a flip."""


def _turned(path: Path) -> Damage:
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[half:] + content[:half])
    return Damage("exchange of the halves", (path,))


def _drawn(rng: random.Random, files: Sequence[Path]) -> Path:
    """One that isn't empty: half of the time any, half of the time by size."""
    full = [path for path in files if path.stat().st_size]
    if rng.random() < 0.5:
        return rng.choice(full)
    return rng.choices(full, [path.stat().st_size for path in full])[0]

"""Archives that mean harm: a wheel that holds the wanted member, and more, or holds it in a way that costs.

Each function writes a wheel and says what it made.  Good members hold ``CONTENT``.
"""

import io
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

MEMBER = "sample/text.txt"
CONTENT = b"Once upon a time there was a wheel.\n" * 200
Make = Callable[[random.Random, Path], str]


def good(rng: random.Random, path: Path) -> str:
    path.write_bytes(_zip({MEMBER: CONTENT}))
    return "good"


def bomb(rng: random.Random, path: Path) -> str:
    """Few bytes that unpack to many."""
    size = rng.choice((20, 100, 300)) * 1_000_000
    path.write_bytes(_zip({MEMBER: bytes(size)}))
    return f"a bomb of {size} bytes"


def bomb_that_lies(rng: random.Random, path: Path) -> str:
    """The directory of the archive announces the size of the good member; the stream holds a hundred megabytes."""
    content = bytearray(_zip({MEMBER: bytes(100_000_000)}))
    _patch_sizes(content, len(CONTENT))
    path.write_bytes(content)
    return "a bomb that announces little"


def size_absurd(rng: random.Random, path: Path) -> str:
    content = bytearray(_zip({MEMBER: CONTENT}))
    size = rng.choice((0, 1, 2**31, 2**32 - 2))
    _patch_sizes(content, size)
    path.write_bytes(content)
    return f"announces {size} bytes"


def names_outside(rng: random.Random, path: Path) -> str:
    """Beside the good member, or in its place."""
    name = rng.choice(
        ("../outside", "/tmp/outside", "sample/../../outside", "..\\outside", "C:\\outside", "a\0b", "x" * 60_000)
    )
    members = {name: CONTENT} if rng.random() < 0.5 else {name: b"evil", MEMBER: CONTENT}
    path.write_bytes(_zip(members))
    return f"a member {name[:40]!r}"


def link(rng: random.Random, path: Path) -> str:
    """The wanted member is a symbolic link, a device or a directory by its mode."""
    info = zipfile.ZipInfo(MEMBER)
    info.create_system = 3
    kind = rng.choice((stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR))
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    return f"a member of type {kind:o}"


def twice(rng: random.Random, path: Path) -> str:
    """Two members of one name; which is meant?"""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        pair = [CONTENT, b"another text\n"]
        for content in pair if rng.random() < 0.5 else pair[::-1]:
            info = zipfile.ZipInfo(MEMBER)
            archive.writestr(info, content)
    path.write_bytes(stream.getvalue())
    return "the member twice"


def many_members(rng: random.Random, path: Path) -> str:
    path.write_bytes(_zip({**{f"{i}": b"" for i in range(50_000)}, MEMBER: CONTENT}))
    return "fifty thousand members"


def encrypted(rng: random.Random, path: Path) -> str:
    """By its flag, in both headers."""
    content = bytearray(_zip({MEMBER: CONTENT}))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.find(mark) + offset
        content[at] |= 1
    path.write_bytes(content)
    return "encrypted"


def method_unknown(rng: random.Random, path: Path) -> str:
    content = bytearray(_zip({MEMBER: CONTENT}))
    method = rng.choice((1, 6, 9, 12, 14, 93, 99, 0xFFFF))
    for mark, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        struct.pack_into("<H", content, content.find(mark) + offset, method)
    path.write_bytes(content)
    return f"compressed by method {method}"


def bytes_changed(rng: random.Random, path: Path) -> str:
    content = bytearray(_zip({MEMBER: CONTENT}))
    for _ in range(rng.choice((1, 2, 8))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)
    return "bytes changed"


def cut_short(rng: random.Random, path: Path) -> str:
    content = _zip({MEMBER: CONTENT})
    left = rng.randrange(len(content))
    path.write_bytes(content[:left])
    return f"all but {left} bytes cut"


def no_archive(rng: random.Random, path: Path) -> str:
    path.write_bytes(
        rng.choice((b"", b"PK", b"PK\5\6" + bytes(18), rng.randbytes(5_000), b"<html></html>", bytes(10_000)))
    )
    return "no archive"


MAKERS: tuple[Make, ...] = (
    bytes_changed, bomb, names_outside, link, twice, encrypted, cut_short, bomb_that_lies, size_absurd, no_archive,
    method_unknown, bytes_changed, names_outside, cut_short, many_members, good,
)  # fmt: skip


def _zip(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # ZipInfo itself would make a harmless name of it
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return stream.getvalue()


def _patch_sizes(content: bytearray, size: int) -> None:
    """The size after unpacking, in the member's own header and in the directory."""
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.find(mark) + offset, size)

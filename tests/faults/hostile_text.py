"""The user's own text, where it means harm: lines of JSON, tables, plain text, and folders of files.

Each function gives bytes, or fills a folder, in a way that is drawn from a seed.
"""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

Make = Callable[[random.Random], bytes]
Fill = Callable[[random.Random, Path], str]

LONG = 10_000_000
WORDS = "Once upon a time there was a king who had three daughters."
TABLE = "Content\tCategory\nstring\tdiscrete\nmeta\tclass\n"
"""Three header rows."""

TEXTS: tuple[str, ...] = (
    WORDS, "", " ", "\0", "a\0b", "\x1b[31mred", "\u2028\u2029\x85\x0b\x0c", "\ufeff" + WORDS, "\ufffe\uffff",
    "\u202eabc", "\U0010ffff", "e\u0301" * 100, "<|endoftext|>", "a" * 100_000, "\r", "\r\n\r", "\t\t\t", '"', "\\",
    "\ud800", "\udfff\ud800",
)  # fmt: skip


def lines_of_json(rng: random.Random) -> bytes:
    """Good lines, and among them one that isn't."""
    lines = [json.dumps({"text": f"{WORDS} {i}"}).encode() for i in range(20)]
    lines.insert(rng.randrange(len(lines)), _line(rng))
    return rng.choice((b"\n", b"\r\n", b"\n\n")).join(lines) + b"\n"


def only_hostile_lines(rng: random.Random) -> bytes:
    return b"\n".join(_line(rng) for _ in range(10))


def table(rng: random.Random) -> bytes:
    """Three header rows, good rows, and something wrong with one of either."""
    rows = [f"{WORDS} {i}\tacq".encode() for i in range(20)]
    text = _encodable(rng.choice(TEXTS))
    rows.insert(
        rng.randrange(len(rows)),
        rng.choice((text, text + b"\tacq", b"a\tb\tc", b"\t", text + b"\t" + text, b"\t" * 1_000_000, b"a\t\x1b[31m")),
    )
    head = TABLE.encode().splitlines()
    kind = rng.randrange(8)
    if kind == 0:
        head.pop(rng.randrange(3))
    elif kind == 1:
        head[rng.randrange(3)] = rng.choice((b"", text, b"Content\tContent", b"\x1b[2J\tCategory", b"x" * LONG))
    elif kind == 2:
        head = head[: rng.randrange(3)]
        rows = []
    return b"\n".join([*head, *rows]) + b"\n"


def plain(rng: random.Random) -> bytes:
    return b" ".join(_encodable(rng.choice(TEXTS)) for _ in range(5))


def encoded_otherwise(rng: random.Random) -> bytes:
    """Good lines of JSON or a good table, spelled in another way or damaged."""
    good = rng.choice((json.dumps({"text": WORDS}) + "\n", TABLE + f"{WORDS}\tacq\n")).encode() * 3
    changed = bytearray(good)
    changed[rng.randrange(len(changed))] = rng.randrange(256)
    return rng.choice(
        (b"\xef\xbb\xbf" + good, good.decode().encode("utf-16"), good.decode().encode("utf-32"), b"\xff\xfe" + good,
         good + b"\xc3\x28", good + b"\xed\xa0\x80", b"\0" + good, good + b"\0" * 512, good[: rng.randrange(len(good))],
         bytes(changed), bytes(changed), good.replace(b"\n", b"\r"), b"", rng.randbytes(1000))
    )  # fmt: skip


def far_too_long(rng: random.Random) -> bytes:
    """One line, or very many, of which all are empty, broken or good."""
    return rng.choice(
        (b'{"text": "' + b"x" * LONG + b'"}', b"x" * LONG, b"\n" * (LONG // 10), b"{\n" * (LONG // 20),
         b'{"text": "a"}\n' * (LONG // 100), b"[" * LONG, TABLE.encode() + b"a\tacq\n" * (LONG // 100))
    )  # fmt: skip


MAKERS: tuple[Make, ...] = (
    lines_of_json, table, plain, encoded_otherwise, lines_of_json, table, only_hostile_lines, encoded_otherwise,
    lines_of_json, far_too_long,
)  # fmt: skip


def names(rng: random.Random, own: Path) -> str:
    """A good text under a name that means harm."""
    name = rng.choice(
        (b"caf\xe9.txt", b"\xff\xfe.txt", b"a\nb.txt", b"\x1b[2J.txt", b"-rf.txt", b"a b.txt", b"$(touch executed).txt",
         b".txt", b"..txt", b"x" * 250 + b".txt", "\u202etxt.txt".encode(), b"a.TXT", b"manifest.json.txt",
         b"'; touch executed; '.txt",
         "e\u0301.txt".encode(), b"con.txt", b"a.jsonl.txt")
    )  # fmt: skip
    (own / os.fsdecode(name)).write_text(WORDS * 100, encoding="utf-8")
    return f"name {name!r}"


def no_regular_file(rng: random.Random, own: Path) -> str:
    kind = rng.choice(
        ("directory", "fifo", "nowhere", "itself", "/dev/zero", "/dev/urandom", "loop", "sparse", "empty", "outside")
    )
    path = own / "text.txt"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 1 << 40)
    elif kind == "empty":
        path.touch()
    elif kind == "loop":
        (own / "folder").symlink_to(own, target_is_directory=True)
    else:
        path.symlink_to({"nowhere": "gone", "itself": path.name, "outside": "/etc/hostname"}.get(kind, kind))
    return kind


def both_names(rng: random.Random, own: Path) -> str:
    """Two files whose names differ in case, in normal form or in folder."""
    one, other = rng.choice(
        (("a.txt", "A.txt"), ("e\u0301.txt", "\u00e9.txt"), ("a/b.txt", "a-b.txt"), ("a/b.txt", "b.txt"))
    )
    for name in (one, other):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text(f"{name} {WORDS}" * 100, encoding="utf-8")
    return f"{one!r} and {other!r}"


def content(rng: random.Random, own: Path) -> str:
    make = rng.choice(MAKERS)
    name = rng.choice(("text.txt", "text.jsonl"))
    (own / name).write_bytes(make(rng))
    return f"{name}: {make.__name__}"


def deep(rng: random.Random, own: Path) -> str:
    """A folder in a folder, until the path is as long as paths may be."""
    folder = own
    for _ in range(rng.choice((50, 500))):
        folder = folder / "folder"
    folder.mkdir(parents=True)
    (folder / "text.txt").write_text(WORDS * 100, encoding="utf-8")
    return "a deep folder"


FILLERS: tuple[Fill, ...] = (
    names,
    content,
    no_regular_file,
    content,
    both_names,
    names,
    content,
    no_regular_file,
    deep,
)


def _line(rng: random.Random) -> bytes:
    """Of JSON, that means harm."""
    text = json.dumps({"text": rng.choice(TEXTS)}).encode()
    digits = b"9" * rng.choice((400, 5_000, 1_000_000))
    return rng.choice(
        (text, text, text, b"", b"{", b"}", b"null", b"[]", b"7", b'"x"', b"NaN", text + text, text[:-1], b"\0",
         b"\xff", b'{"text": null}', b'{"text": 7}', b'{"text": []}', b'{"text": {}}', b'{"other": "x"}',
         b'{"text": "a", "text": "b"}',
         b'{"text": ' + digits + b"}", b'{"text": "a", "n": ' + digits + b"}", b'{"text": "a", "n": 1e999}',
         b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'{"text": "\\ud800"}',
         b'{"text": "\\udfff\\ud800"}', b'{"text": "\\u0000"}', b'{"text": "a\tb"}', b"{'text': 'a'}",
         b'{"text": "a",}', b'\xef\xbb\xbf{"text": "a"}')
    )  # fmt: skip


def _encodable(text: str) -> bytes:
    """Halves of surrogate pairs as the bytes that no UTF-8 has."""
    return text.encode("utf-8", "surrogatepass")

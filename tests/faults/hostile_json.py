"""JSON that means harm: an object's text, changed in one way that is drawn from a seed.

A change is structural (a value of another kind, a key gone, twice or unknown) or textual (bytes that are no JSON, or
JSON that costs its reader a lot).  Each function takes the good text and returns the hostile one; its name says what
it does.
"""

import json
import random
from collections.abc import Callable
from typing import Any

Spoil = Callable[[random.Random, bytes], bytes]

HUGE = 50_000_000
"""Bytes of a file that has no business being so large."""
DEEP = 100_000
"""Brackets in brackets; Python's parser gives up at about a thousand."""
ABSURD: tuple[Any, ...] = (
    0, -1, 1, 3, 10**9, 10**15, 2**63, 10**30, -(10**30), 0.5, 2.0, -0.0, 1e308, 5e-324, float("nan"), float("inf"),
    True, False, None, "", "2", "x" * 10_000, "\x1b[31mred\x1b[0m", "a\nb", "\ud800", "../../etc/passwd", "\0",
    [], {}, [[]], [1, 2], {"a": {"b": {}}}, ["x"] * 1000,
)  # fmt: skip


def value_changed(rng: random.Random, content: bytes) -> bytes:
    """Of a key on any level."""
    fields = json.loads(content)
    holder, key = rng.choice(list(_places(fields)))
    holder[key] = rng.choice(ABSURD)
    return _text(fields)


def key_gone(rng: random.Random, content: bytes) -> bytes:
    fields = json.loads(content)
    holder, key = rng.choice(list(_places(fields)))
    del holder[key]
    return _text(fields)


def key_unknown(rng: random.Random, content: bytes) -> bytes:
    fields = json.loads(content)
    name = rng.choice(
        ("n_inner", "rope_scaling", "auto_map", "quantization_config", "__class__", "\x1b[2J", "\ud800", "")
    )
    return _text({**fields, name: rng.choice(ABSURD)})


def key_twice(rng: random.Random, content: bytes) -> bytes:
    """The second, which most parsers take, has another value."""
    fields = json.loads(content)
    name = rng.choice(list(fields))
    second = f", {json.dumps(name)}: {json.dumps(rng.choice(ABSURD))}}}"
    return content.rstrip()[:-1] + second.encode()


def another_type(rng: random.Random, content: bytes) -> bytes:
    return rng.choice((b"", b"null", b"[]", b"0", b'"x"', b"true", b"NaN", b"{}", b" ", b"[" + content + b"]"))


def bytes_changed(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def cut_short(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def with_more_behind(rng: random.Random, content: bytes) -> bytes:
    return content + rng.choice((b"}", b"{}", content, b"\0", b"\0" * 4096, b"// comment"))


def encoded_otherwise(rng: random.Random, content: bytes) -> bytes:
    text = content.decode()
    return rng.choice(
        (b"\xef\xbb\xbf" + content, text.encode("utf-16"), text.encode("utf-32"), b"\xff\xfe" + content,
         content.replace(b'"', b'"\xc3\x28', 1), content.replace(b'"', b'"\xed\xa0\x80', 1))
    )  # fmt: skip


def nested_deep(rng: random.Random, content: bytes) -> bytes:
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    inner = opening * DEEP + b"0" + closing * DEEP
    return inner if rng.random() < 0.3 else content.rstrip()[:-1] + b', "deep": ' + inner + b"}"


def number_of_many_digits(rng: random.Random, content: bytes) -> bytes:
    """Python refuses to turn more than 4,300 digits into a whole number; a float becomes infinite."""
    fields = json.loads(content)
    name = rng.choice(list(fields))
    digits = rng.choice(("9" * 5_000, "9" * 1_000_000, "1e" + "9" * 20, "-" + "9" * 400 + ".5"))
    return _text({**fields, name: "HERE"}).replace(b'"HERE"', digits.encode())


def far_too_long(rng: random.Random, content: bytes) -> bytes:
    """Of white space, one string, many numbers, many keys, or many brackets."""
    body = content.rstrip()[:-1]
    kind = rng.randrange(5)
    if kind == 0:
        return body + b" " * HUGE + b"}"
    if kind == 1:
        return body + b', "long": "' + b"x" * HUGE + b'"}'
    if kind == 2:
        return body + b', "many": [' + b"1," * (HUGE // 2) + b"1]}"
    if kind == 3:
        return body + b"," + b",".join(b'"%d":0' % i for i in range(HUGE // 50)) + b"}"
    return body + b', "many": [' + b"[]," * (HUGE // 3) + b"[]]}"


SPOILERS: tuple[Spoil, ...] = (
    value_changed, value_changed, value_changed, key_gone, key_unknown, key_twice, another_type, bytes_changed,
    bytes_changed, cut_short, with_more_behind, encoded_otherwise, nested_deep, number_of_many_digits, far_too_long,
)  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (object, key) and (list, index), on all levels."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def _text(fields: Any) -> bytes:
    """With NaN and halves of surrogate pairs, if there are any."""
    return json.dumps(fields).encode()

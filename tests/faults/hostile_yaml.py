"""Parameter files that mean harm: ``params.yaml``, changed in one way that is drawn from a seed.

A change is structural (another value of a field, a field gone or unknown, a section gone) or textual: bytes that are no
YAML, YAML that costs its reader a lot, tags that ask for Python objects.  Each function takes the good text and the
path that anything executed would create, and returns the hostile bytes.
"""

import io
import random
from collections.abc import Callable
from typing import Any

from ruamel.yaml import YAML

Spoil = Callable[[random.Random, str, str], bytes]

ABSURD: tuple[Any, ...] = (
    "0", "-1", "1.5", "3", "1e24", "-1e24", "999999999999", "1" + "0" * 24, "9" * 5000, "1e999", ".inf", "-.inf",
    ".nan", "true", "null", "~", '"2"', '""', "[]", "{}", "[1, 2]", "{a: {b: {}}}", "2026-11-25",
    "2026-11-25T01:02:03Z", "12:30:45", "0x1F", "0o17", "1_000", "!!binary aGk=", "!!set {a, b}", "!!str 1",
    "!!int '7'", "!!float 'x'", "!!omap [a: 1]", "!!timestamp 2026-01-01", '"\\e[31mred"', '"a\\0b"', '"\\ud800"',
    "'; touch X; '", "$(touch X)", "`touch X`", "../../etc/passwd", "/dev/zero", "[" * 50 + "]" * 50, "*nothing",
    "&a [*a]", "|\n    text\n",
)  # fmt: skip


def value_changed(rng: random.Random, text: str, canary: str) -> bytes:
    """Of a line, as a careless or hostile hand would: the rest, comments too, stays."""
    lines = text.splitlines()
    at = rng.choice([i for i, line in enumerate(lines) if ": " in line.partition("#")[0]])
    key, _, _ = lines[at].partition(":")
    value = rng.choice(ABSURD).replace("touch X", f"touch {canary}")
    return "\n".join([*lines[:at], f"{key}: {value}", *lines[at + 1 :]]).encode("utf-8", "surrogatepass")


def number_absurd(rng: random.Random, text: str, canary: str) -> bytes:
    """Well typed, and beyond all reason."""
    lines = text.splitlines()
    numbers = [i for i, line in enumerate(lines) if _value(line).lstrip("-").isdigit() and "sha256" not in line]
    at = rng.choice(numbers)
    number = rng.choice((10**24, 10**100, -(10**24)))
    return "\n".join([*lines[:at], f"{lines[at].partition(':')[0]}: {number}", *lines[at + 1 :]]).encode()


def key_unknown(rng: random.Random, text: str, canary: str) -> bytes:
    lines = text.splitlines()
    at = rng.choice([i for i, line in enumerate(lines) if line.startswith("  ") and ":" in line])
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    name = rng.choice(
        ('"\\e[2J"', "__class__", "? [a, b]\n  ", "1", "null", "true", '""', "1.5", "2026-11-25", "<<", "é")
    )
    return "\n".join([*lines[:at], f"{indent}{name}: {rng.choice(ABSURD)}", *lines[at:]]).encode(
        "utf-8", "surrogatepass"
    )


def line_gone(rng: random.Random, text: str, canary: str) -> bytes:
    lines = text.splitlines()
    del lines[rng.choice([i for i, line in enumerate(lines) if line.strip()])]
    return "\n".join(lines).encode()


def line_twice(rng: random.Random, text: str, canary: str) -> bytes:
    lines = text.splitlines()
    at = rng.choice([i for i, line in enumerate(lines) if ":" in line.partition("#")[0]])
    return "\n".join([*lines[:at], lines[at], *lines[at:]]).encode()


def lines_exchanged(rng: random.Random, text: str, canary: str) -> bytes:
    lines = text.splitlines()
    one, other = rng.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return "\n".join(lines).encode()


def section_is_another(rng: random.Random, text: str, canary: str) -> bytes:
    document = YAML(typ="safe").load(text)
    name = rng.choice(list(document))
    document[name] = rng.choice((None, 7, "x", [], [1], True, {}, {"a": 1}, document, dict.fromkeys(range(5000))))
    if document[name] is document:
        document[name] = {**document}
    return _dumped(document)


def many_problems(rng: random.Random, text: str, canary: str) -> bytes:
    """Thousands of unknown parameters, or sections: the message must stay readable."""
    many = rng.choice((4_000, 40_000))
    if rng.random() < 0.5:
        return (text + "".join(f"\nsection{i}: {{}}" for i in range(many))).encode()
    return text.replace("model:", "model:\n" + "".join(f"  n{i}: 1\n" for i in range(many)), 1).encode()


def another_document(rng: random.Random, text: str, canary: str) -> bytes:
    return rng.choice(
        (b"", b"null", b"[]", b"7", b"text", b"--- {}\n--- {}\n", text.encode() + b"\n---\n" + text.encode(),
         b"%YAML 9.9\n---\n" + text.encode(), b"%YAML 1.1\n---\n" + text.encode(), b"!!set {a}", b"\0", b"#",
         b"---\n...")
    )  # fmt: skip


def objects_asked_for(rng: random.Random, text: str, canary: str) -> bytes:
    """By the tags of Python's YAML libraries."""
    tag = rng.choice(
        (f"!!python/object/apply:os.system ['touch {canary}']", f"!!python/object/new:os.system ['touch {canary}']",
         "!!python/name:os.system", "!!python/module:os", f"!!python/object/apply:builtins.open ['{canary}', 'w']",
         "!!python/tuple [1, 2]", "!include /etc/passwd",
         f"!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {canary}']",
         "!unknown {a: 1}")
    )  # fmt: skip
    where = rng.choice(("seed: 1", "d_model: 256", "kind: bpe", "source: data/checkpoints/pretrain"))
    return text.replace(where, f"{where.partition(':')[0]}: {tag}", 1).encode()


def laughs(rng: random.Random, text: str, canary: str) -> bytes:
    """A thousand million references in a kilobyte, as lists, mappings or merges, and one that holds itself."""
    kind = rng.randrange(4)
    levels = range(1, 10)
    if kind == 0:
        bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in levels]
    elif kind == 1:
        bomb = ["a0: &a0 {k: x}"]
        bomb += [f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}" for i in levels]
    elif kind == 2:
        bomb = ["a0: &a0 {k: x}"]
        bomb += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}], k{i}: 1}}" for i in levels]
    else:
        bomb = ["a0: &a0 [x, *a0]", "model: &m {d_model: *m}"]
    text = text if rng.random() < 0.5 else text.replace("    - Once upon a time", "    - *a9", 1)
    return ("\n".join(bomb) + "\n" + text).encode()


def nested_deep(rng: random.Random, text: str, canary: str) -> bytes:
    deep = rng.choice((500, 5_000, 100_000))
    kind = rng.randrange(3)
    if kind == 0:
        inner = "[" * deep + "]" * deep
    elif kind == 1:
        inner = "{a: " * deep + "1" + "}" * deep
    else:
        return (text + "\nx:\n" + "".join(" " * i + "- \n" for i in range(1, min(deep, 3_000)))).encode()
    return text.replace("d_model: 256", f"d_model: {inner}", 1).encode()


def far_too_long(rng: random.Random, text: str, canary: str) -> bytes:
    """Ten megabytes: a scalar, a comment, a key, a list, lines."""
    size = 10_000_000
    kind = rng.randrange(5)
    if kind == 0:
        return text.replace("d_model: 256", "d_model: " + "x" * size, 1).encode()
    if kind == 1:
        return (text + "\n#" + "x" * size).encode()
    if kind == 2:
        return (text + "\n" + "k" * size + ": 1\n").encode()
    if kind == 3:
        return text.replace("    - Once upon a time", "    - Once\n" * (size // 11), 1).encode()
    return (text + "\n" * size).encode()


def bytes_changed(rng: random.Random, text: str, canary: str) -> bytes:
    changed = bytearray(text.encode())
    for _ in range(rng.choice((1, 2, 8))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def cut_short(rng: random.Random, text: str, canary: str) -> bytes:
    content = text.encode()
    return content[: rng.randrange(len(content))]


def encoded_otherwise(rng: random.Random, text: str, canary: str) -> bytes:
    return rng.choice(
        (text.encode("utf-16"), text.encode("utf-32"), b"\xef\xbb\xbf" + text.encode(), b"\xff\xfe" + text.encode(),
         text.replace("  ", "\t").encode(), text.replace("\n", "\r").encode(), text.replace("\n", "\r\n").encode(),
         text.replace("model:", "model:\xa0", 1).encode(), text.encode().replace(b"true", b"tr\xfce"),
         text.encode() + b"\xed\xa0\x80", text.encode() + b"\nx: \xc3\x28", text.encode() + b"\n\0",
         text.replace("model:", "model:\u2028", 1).encode())
    )  # fmt: skip


SPOILERS: tuple[Spoil, ...] = (
    value_changed, number_absurd, value_changed, key_unknown, line_gone, line_twice, bytes_changed, lines_exchanged,
    section_is_another, objects_asked_for, laughs, nested_deep, another_document, encoded_otherwise, cut_short,
    many_problems, value_changed, bytes_changed, number_absurd, far_too_long,
)  # fmt: skip
MUST_BE_REFUSED: tuple[Spoil, ...] = (number_absurd, objects_asked_for, many_problems)


def _value(line: str) -> str:
    return line.partition("#")[0].partition(":")[2].strip()


def _dumped(document: Any) -> bytes:
    text = io.StringIO()
    YAML(typ="safe").dump(document, text)
    return text.getvalue().encode()

"""Vocabularies that mean harm: ``vocab.json`` and ``merges.txt`` of a directory, or a file of ranks."""

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path

from tests.faults import hostile_json

Spoil = Callable[[random.Random, Path], str]
"""Changes a directory's vocabulary and says how."""


def vocab_spoiled(rng: random.Random, directory: Path) -> str:
    spoil = rng.choice(hostile_json.SPOILERS)
    path = directory / "vocab.json"
    path.write_bytes(spoil(rng, path.read_bytes()))
    return f"vocab.json: {spoil.__name__}"


def token_changed(rng: random.Random, directory: Path) -> str:
    """A token of the table is another one, is there with another's id, or is no token at all."""
    path = directory / "vocab.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    token = rng.choice(list(table))
    number = table.pop(token)
    changed = {token + token: number, "\u4e00": number, "": number, token: rng.randrange(len(table)), token + "a": -1}
    name = rng.choice(list(changed))
    table[name] = changed[name]
    path.write_text(json.dumps(table), encoding="utf-8")
    return f"vocab.json: {token!r}: {number} is {name!r}: {changed[name]}"


def ids_exchanged(rng: random.Random, directory: Path) -> str:
    path = directory / "vocab.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    one, other = rng.sample(list(table), 2)
    table[one], table[other] = table[other], table[one]
    path.write_text(json.dumps(table), encoding="utf-8")
    return f"vocab.json: the ids of {one!r} and {other!r} exchanged"


def merges_changed(rng: random.Random, directory: Path) -> str:
    """Lines gone, twice, exchanged, with another number of words, or of foreign characters."""
    path = directory / "merges.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    at, other = rng.sample(range(1, len(lines)), 2)
    kind = rng.randrange(6)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[other])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = ("one", "a b c", "\u4e00 \u4e01")[kind - 3]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"merges.txt: line {at + 1} {('gone', 'twice', 'exchanged', 'one word', 'three words', 'foreign')[kind]}"


def merges_bytes(rng: random.Random, directory: Path) -> str:
    path = directory / "merges.txt"
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    content[at] = rng.randrange(256)
    kind = rng.choice(("a byte", "cut", "empty", "long line", "many lines"))
    spoiled = {
        "a byte": bytes(content),
        "cut": bytes(content[:at]),
        "empty": b"",
        "long line": bytes(content) + b"x" * 20_000_000,
        "many lines": bytes(content) + b"a b\n" * 5_000_000,
    }
    path.write_bytes(spoiled[kind])
    return f"merges.txt: {kind}"


def tokenizer_config_spoiled(rng: random.Random, directory: Path) -> str:
    """What a reader may look up there is how long a text a classifier was tuned on."""
    path = directory / "tokenizer_config.json"
    good = {**json.loads(path.read_text(encoding="utf-8")), "model_max_length": 8}
    if rng.random() < 0.5:
        good["model_max_length"] = rng.choice(hostile_json.ABSURD)
        path.write_text(json.dumps(good), encoding="utf-8")
        return f"tokenizer_config.json: model_max_length = {str(good['model_max_length'])[:40]!r}"
    spoil = rng.choice(hostile_json.SPOILERS)
    path.write_bytes(spoil(rng, json.dumps(good).encode()))
    return f"tokenizer_config.json: {spoil.__name__}"


def smaller(rng: random.Random, directory: Path) -> str:
    """Whole in itself, but with fewer ids than the model has rows: the last merges and their tokens are gone."""
    n = rng.choice((1, 5, 20))
    lines = (directory / "merges.txt").read_text(encoding="utf-8").splitlines()
    table = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
    names = sorted(table, key=table.__getitem__)
    kept = names[: -1 - n] + names[-1:]
    (directory / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(kept)}), encoding="utf-8")
    (directory / "merges.txt").write_text("\n".join(lines[:-n]) + "\n", encoding="utf-8")
    return f"a vocabulary of {len(kept)} ids"


SPOILERS: tuple[Spoil, ...] = (
    vocab_spoiled, vocab_spoiled, token_changed, ids_exchanged, merges_changed, merges_changed, merges_bytes,
)  # fmt: skip


def ranks_spoiled(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """Of a file in tiktoken's form, a line a token: base64, space, id."""
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    token, _, number = lines[at].partition(b" ")
    kind = rng.choice(
        ("gone", "twice", "no base64", "another id", "huge id", "negative", "words", "bytes", "cut", "empty", "long")
    )
    lines[at : at + 1] = {
        "gone": [],
        "twice": [lines[at], lines[at]],
        "no base64": [b"!!! " + number],
        "another id": [token + b" %d" % rng.randrange(len(lines))],
        "huge id": [token + b" " + b"9" * rng.choice((20, 5000))],
        "negative": [token + b" -1"],
        "words": [token, number, token + b" 1 2"],
        "bytes": [rng.randbytes(8) + lines[at]],
        "long": [base64.b64encode(b"x" * 20_000_000) + b" " + number],
    }.get(kind, [lines[at]])
    text = b"\n".join(lines) + b"\n"
    if kind in ("cut", "empty"):
        text = text[: rng.randrange(len(text))] if kind == "cut" else b""
    return text, f"line {at + 1}: {kind}"

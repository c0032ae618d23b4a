"""The vocabulary of a GGUF file, as the ``tokenizer.json`` that it was made from.

llama.cpp keeps the tokens in the order of their ids, the merges, the kind of each token, and for the way in which texts
are cut no more than a name (``smollm``).  What the name means is said here, in the words of the published files; a
name that isn't known is refused, because another way of cutting gives other ids without a word.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptcore.gguf_file import read_gguf
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers.json_file import made_of
from gptcore.tokenizer.same_ids import LLAMA3_PATTERN, QWEN2_PATTERN
from gptcore.untrusted import shown

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
"""Kinds of tokens; others stand for nothing."""
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTES_ONLY = _BYTE_LEVEL | {"use_regex": False}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _BYTES_ONLY]}


_DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL]}
_LLAMA3 = {"pre_tokenizer": _split(LLAMA3_PATTERN), "ignore_merges": True}
WORDS: dict[str, dict[str, Any]] = {
    "gpt-2": {"pre_tokenizer": _BYTE_LEVEL},
    "smollm": {"pre_tokenizer": _DIGITS},
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": {"pre_tokenizer": _split(QWEN2_PATTERN), "normalizer": {"type": "NFC"}},
}
"""llama.cpp's name for a way of cutting texts → the parts of ``tokenizer.json``."""
_BEGUN = ("llama-bpe", "llama3")
"""Where a file that says nothing of it means that texts begin with ``bos_token``."""


def read(path: Path) -> Tokenizer:
    """Raises ``ValueError`` for a vocabulary that is not byte-level, and for an unknown way of cutting."""
    facts = {
        name.removeprefix("tokenizer.ggml."): value
        for name, value in read_gguf(path).facts.items()
        if name.startswith("tokenizer.")
    }
    if (model := facts.get("model")) != "gpt2":
        raise ValueError(f"tokenizer.ggml.model: expected 'gpt2' (byte-level BPE), found {shown(model)}")
    if not isinstance(way := facts.get("pre"), str) or way not in WORDS:
        raise ValueError(f"tokenizer.ggml.pre: expected one of {', '.join(WORDS)}, found {shown(way)}")
    tokens, kinds, merges = (_texts_or_numbers(facts, name, kind) for name, kind in _LISTS.items())
    kinds = kinds or [NORMAL] * len(tokens)
    if len(kinds) != len(tokens):
        raise ValueError(f"tokenizer.ggml.token_type: expected {len(tokens):,} kinds, found {len(kinds):,}")
    if len(set(tokens)) < len(tokens):
        raise ValueError("tokenizer.ggml.tokens: expected each token once")
    template = facts.get("tokenizer.chat_template")
    words = WORDS[way] | {"post_processor": _before(facts, tokens, way)}
    document = _document(tokens, kinds, merges, words)
    return made_of(document, _named(facts, tokens), template if isinstance(template, str) else None)


_LISTS = {"tokens": str, "token_type": int, "merges": str}


def _document(tokens: list[str], kinds: list[int], merges: list[str], words: Mapping[str, Any]) -> dict[str, Any]:
    added = [
        {"id": number, "content": token, "special": kind == CONTROL, "normalized": False}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "added_tokens": [token | {"single_word": False, "lstrip": False, "rstrip": False} for token in added],
        "normalizer": words.get("normalizer"),
        "pre_tokenizer": words["pre_tokenizer"],
        "post_processor": words["post_processor"],
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": words.get("ignore_merges", False),
            "vocab": {  # the added ones too: the library numbers anew what it doesn't find here
                token: number
                for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
                if kind in (NORMAL, CONTROL, USER_DEFINED)
            },
            "merges": merges,
        },
    }


def _before(facts: Mapping[str, Any], tokens: list[str], way: str) -> dict[str, Any] | None:
    """What puts ``bos_token`` before every text, where the file or llama.cpp's rule for this way of cutting says so."""
    put = {"bos": facts.get("add_bos_token", way in _BEGUN), "eos": facts.get("add_eos_token", False)}
    if wrong := next((name for name, value in put.items() if type(value) is not bool), None):
        raise ValueError(f"tokenizer.ggml.add_{wrong}_token: expected true or false, found {shown(put[wrong])}")
    if put["eos"]:
        raise ValueError("tokenizer.ggml.add_eos_token: it puts a token behind a text: this is not computed")
    if not put["bos"]:
        return None
    if (token := _named(facts, tokens).get("bos_token")) is None:
        raise ValueError(f"tokenizer.ggml.bos_token_id: expected an id, found {shown(facts.get('bos_token_id'))}")
    special, text = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [special, text],
        "pair": [special, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [facts["bos_token_id"]], "tokens": [token]}},
    }


def _named(facts: Mapping[str, Any], tokens: list[str]) -> dict[str, str]:
    words = {"bos_token": "bos_token_id", "eos_token": "eos_token_id", "pad_token": "padding_token_id"}
    found = {word: facts.get(name) for word, name in words.items()}
    return {word: tokens[n] for word, n in found.items() if type(n) is int and 0 <= n < len(tokens)}


def _texts_or_numbers(facts: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    found = facts.get(name, [])
    if not isinstance(found, list) or not all(type(each) is kind for each in found):
        raise ValueError(f"tokenizer.ggml.{name}: expected a list, found {shown(found)}")
    return found


READ = read

"""Byte-level BPE with GPT-2's pattern: the vocabularies that are trained here, and GPT-2's own.

Encoding runs in tiktoken, from a local table of *ranks* (the bytes of a token → its id, which is also the
order of its merge).  The same table has a second spelling, ``vocab.json`` + ``merges.txt``, which is how
GPT-2 was published and what `transformers` reads; a tokenizer is always saved in that form, so every
directory of this project that holds one opens elsewhere.  The merges are recovered from the ranks by
splitting each token with the merges that came before it.

An own vocabulary is trained by `bpe.py` and then spelled as ranks.  GPT-2's pre-tokenizing pattern is what makes the
two spellings give the same ids; vocabularies with another one are `json_file`'s.

``<|endoftext|>`` inside a text is text: it becomes the special id only where the caller allows it.
"""

import base64
import json
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import tiktoken

from gptcore.artifact import canonical_json, sha256_text, write_atomically, write_json
from gptcore.bpe import Watch, learn
from gptcore.errors import DataError
from gptcore.tokenizer import END_OF_TEXT, MOST_IDS, MOST_UNUSED, Tokenizer
from gptcore.untrusted import MB, read_bytes, read_json, shown

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
VOCABULARY_FILES = ("vocab.json", "merges.txt")
GPT2_IDS = 50_257
"""Of the vocabulary that others train their models with, too."""
LONGEST_TOKEN = 1024
"""Bytes; GPT-2's longest has 128."""
LIMIT = 32 * MB
"""Of a file; GPT-2's have 1 MB, those of a vocabulary of 256,000 ids 8 MB."""
_RANK = re.compile(rb"([A-Za-z0-9+/=]+)[ \t]+([0-9]{1,8})")


class BytePairs(Tokenizer):
    """Byte pairs in the order of their merges, and end-of-text."""

    def __init__(self, ranks: dict[bytes, int]) -> None:
        """``ranks``: every single byte and every merge → ids 0 … len-1; end-of-text gets the next id."""
        if problem := _rank_problem(ranks):
            raise DataError(f"vocabulary: {problem}")
        self.ranks = ranks
        self.eot = self.stop = len(ranks)
        self.n_vocab = len(ranks) + 1
        self.most_unused = MOST_UNUSED if self.n_vocab == GPT2_IDS else 0  # ours are of the embedding's size
        self._encoding = tiktoken.Encoding(
            "gptcore", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: self.eot}
        )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, watch: Watch | None = None) -> "BytePairs":
        """Learn merges from ``texts`` until ``vocab_size`` ids exist (fewer if the text runs out of pairs).

        Of words longer than ``bpe.LONGEST_WORD`` bytes, pairs across each multiple of it are not counted.  ``watch``
        is told how far it is.
        """
        if not 257 <= vocab_size <= MOST_IDS:
            raise ValueError(
                f"vocab_size = {vocab_size}: expected at least 257 (256 bytes and end-of-text), at most {MOST_IDS:,}"
            )
        ranks = {bytes([b]): i for i, b in enumerate(_byte_order())}
        for left, right in learn(texts, vocab_size - 1, watch):
            ranks.setdefault(to_bytes(left) + to_bytes(right), len(ranks))
        return cls(ranks)

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> list[int]:
        """Ids of ``text``; special tokens are recognised only if named in ``allowed_special``."""
        return self._encoding.encode(text, allowed_special=set(allowed_special), disallowed_special=())

    def encode_to_numpy(self, text: str) -> np.ndarray:
        """As ``encode``, as an array (N,) of uint32, without a Python list in between."""
        return self._encoding.encode_to_numpy(text, disallowed_special=())

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return self._encoding.decode_bytes([token for token in ids if token < self.n_vocab])

    def has_text(self, token: int) -> bool:
        return token < self.eot

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the ranks and the special token: equal exactly if all ids are."""
        table = {token.hex(): rank for token, rank in self.ranks.items()}
        return sha256_text(canonical_json([table, {END_OF_TEXT: self.eot}]))

    def save(self, directory: Path | str) -> None:
        """Write the vocabulary files that ``load`` and `transformers` read into ``directory``."""
        directory = Path(directory)
        vocabulary = {to_unicode(token): rank for token, rank in sorted(self.ranks.items(), key=lambda kv: kv[1])}
        vocabulary[END_OF_TEXT] = self.eot
        text = json.dumps(vocabulary, ensure_ascii=False)  # in the order of the ids, as GPT-2's own file
        write_atomically(directory / "vocab.json", text.encode("utf-8"))
        merges = "".join(f"{to_unicode(left)} {to_unicode(right)}\n" for left, right in merges_of(self.ranks))
        write_atomically(directory / "merges.txt", ("#version: 0.2\n" + merges).encode("utf-8"))
        write_json(
            directory / "tokenizer_config.json",
            {
                "tokenizer_class": "GPT2Tokenizer",
                "add_prefix_space": False,
                "bos_token": END_OF_TEXT,
                "eos_token": END_OF_TEXT,
                "pad_token": END_OF_TEXT,
                "unk_token": END_OF_TEXT,
                "clean_up_tokenization_spaces": False,
            },
        )


def read(path: Path) -> BytePairs:
    """From a directory with ``vocab.json`` and ``merges.txt``, or from a file of tiktoken ranks."""
    return BytePairs(_read_vocabulary(path) if path.is_dir() else _read_ranks(path))


def merges_of(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pair that each merged token was made from, in the order of the merges."""
    merged = sorted((rank, token) for token, rank in ranks.items() if len(token) > 1)
    pairs = []
    for rank, token in merged:
        parts = _split(token, ranks, below=rank)
        if len(parts) != 2:
            raise DataError(f"vocabulary: token {token!r} (id {rank}) is no merge of two earlier tokens")
        pairs.append((parts[0], parts[1]))
    return pairs


def _split(token: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """BPE of ``token`` with only the merges of rank < ``below``."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 1:
        rank, at = min((ranks.get(parts[i] + parts[i + 1], below), i) for i in range(len(parts) - 1))
        if rank >= below:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _rank_problem(ranks: dict[bytes, int]) -> str | None:
    if len(ranks) >= MOST_IDS:
        return f"expected at most {MOST_IDS:,} ids, found {len(ranks):,}"
    missing = [b for b in range(256) if bytes([b]) not in ranks]
    if missing:
        return f"expected all 256 single bytes, {len(missing)} are missing (first: {missing[0]})"
    if sorted(ranks.values()) != list(range(len(ranks))):
        return f"expected the ids 0 … {len(ranks) - 1:,}, each once"
    if (longest := max(map(len, ranks))) > LONGEST_TOKEN:
        return f"expected tokens of at most {LONGEST_TOKEN:,} bytes, found one of {longest:,}"
    return None


def _read_ranks(path: Path) -> dict[bytes, int]:
    lines = _lines(read_bytes(path, LIMIT))
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not (found := _RANK.fullmatch(line)):
            raise ValueError(f"line {number:,}: expected a token in base64 and its id, found {shown(line)}")
        ranks[base64.b64decode(found[1], validate=True)] = int(found[2])
    if len(ranks) < len(lines):
        raise ValueError(f"expected each token once, found {len(lines) - len(ranks):,} a second time")
    return ranks


def _read_vocabulary(directory: Path) -> dict[bytes, int]:
    """Ranks from ``vocab.json``; refuses a ``merges.txt`` that would merge in another order."""
    ranks = _read_ids(directory / "vocab.json")
    merges = _read_merges(directory / "merges.txt", ranks)
    order = [ranks[left + right] for left, right in merges]
    if sorted(set(order)) != order or len(order) != len(ranks) - 256:
        raise ValueError("merges.txt: expected one merge for each token of vocab.json above the bytes, in its order")
    if late := [pair for pair, rank in zip(merges, order, strict=True) if max(ranks[pair[0]], ranks[pair[1]]) >= rank]:
        raise ValueError(f"merges.txt: expected merges of earlier tokens, found {shown(late[0])}")
    return ranks


def _read_ids(path: Path) -> dict[bytes, int]:
    try:
        vocabulary = read_json(path, LIMIT)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(vocabulary, dict):
        raise ValueError(f"{path.name}: expected an object of tokens and their ids, found {shown(vocabulary)}")
    if wrong := next((item for item in vocabulary.items() if type(item[1]) is not int), None):
        raise ValueError(
            f"{path.name}: expected a whole number as the id of {shown(wrong[0])}, found {shown(wrong[1])}"
        )
    special = vocabulary.pop(END_OF_TEXT, len(vocabulary))
    if special != len(vocabulary):
        last = len(vocabulary)
        raise ValueError(f"{path.name}: expected {END_OF_TEXT} to have the last id {last}, found {shown(special)}")
    try:
        return {to_bytes(token): rank for token, rank in vocabulary.items()}
    except UnicodeEncodeError as error:
        token = shown(error.object)
        raise ValueError(f"{path.name}: expected tokens in GPT-2's 256 characters for bytes, found {token}") from None


def _read_merges(path: Path, ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    try:
        lines = [line.decode("utf-8") for line in _lines(read_bytes(path, LIMIT))]
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    merges = []
    for line in lines:
        if line.startswith("#version"):
            continue
        try:
            left, right = (to_bytes(part) for part in line.split(" "))
        except ValueError:
            raise ValueError(f"{path.name}: expected two tokens, found {shown(line)}") from None
        if not {left, right, left + right} <= ranks.keys():
            raise ValueError(f"{path.name}: expected tokens of vocab.json, found {shown(line)}")
        merges.append((left, right))
    return merges


def _lines(content: bytes) -> list[bytes]:
    """The lines of a file that are not empty, one for an id at most."""
    if (found := content.count(b"\n")) > MOST_IDS:
        raise ValueError(f"expected at most {MOST_IDS:,} lines, found {found:,}")
    return [line.removesuffix(b"\r") for line in content.split(b"\n") if line.strip()]


@cache
def _byte_order() -> list[int]:
    """The 256 bytes in GPT-2's order: printable ones first, each standing for itself."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    return printable + [b for b in range(256) if b not in printable]


@cache
def _byte_characters() -> dict[int, str]:
    """GPT-2's visible character for each byte: itself if printable, else from U+0100 on."""
    order = _byte_order()
    return {b: chr(b) if i < 188 else chr(256 + i - 188) for i, b in enumerate(order)}


@cache
def _character_bytes() -> dict[int, int]:
    """For ``str.translate``: a visible character → that of its byte's number; other characters of one byte → none."""
    return dict.fromkeys(range(256), 0xFFFF) | {ord(c): b for b, c in _byte_characters().items()}


def to_unicode(token: bytes) -> str:
    return "".join(_byte_characters()[b] for b in token)


def to_bytes(token: str) -> bytes:
    return token.translate(_character_bytes()).encode("latin-1")


READ = read

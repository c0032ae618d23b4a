"""Where tiktoken gives the ids that the `tokenizers` library gives, it may do the work: it is several times as fast.

Two things must be equal.  *Words*: the way in which a text is cut has a pattern here that cuts it in the same places,
known for a few that are published; tests hold the two together on a hostile set and on random Unicode.  *Merges*: the
library joins the pairs of a list, in its order; tiktoken joins whatever is a token, the lowest id first.  They agree
exactly if the ids follow the list's order and each token, split by the merges before its own, falls into the pair that
the list names: then no other pair of neighbours ever makes that token (`byte_pairs.merges_of`).

A vocabulary of 50,000 ids takes a second to prove.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gptcore.errors import DataError
from gptcore.tokenizer.readers.byte_pairs import GPT2_PATTERN, merges_of, to_bytes

if TYPE_CHECKING:
    import tiktoken

    from gptcore.tokenizer.added import Added

Piece = tuple[Any, ...]
"""A part of a pre-tokenizer: its type, and what of its settings cuts."""
BYTE_LEVEL: Piece = ("ByteLevel", False, True)
_BYTES_ONLY: Piece = ("ByteLevel", False, False)
_DIGITS: Piece = ("Digits", True)
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
_DIGITS_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++|\s+(?![^\s\p{N}])|\s"
"""GPT-2's within the stretches between digits: where one ends, white space before it ends a text."""
PATTERNS: dict[tuple[Piece, ...], str] = {
    (BYTE_LEVEL,): GPT2_PATTERN,
    (_DIGITS, BYTE_LEVEL): _DIGITS_PATTERN,
    (("Split", LLAMA3_PATTERN, "Isolated", False), _BYTES_ONLY): LLAMA3_PATTERN,
    (("Split", QWEN2_PATTERN, "Isolated", False), _BYTES_ONLY): QWEN2_PATTERN,
}
"""How texts are cut, by the library's parts → by tiktoken's pattern."""


def fast_encoding(document: dict[str, Any], added: Sequence["Added"]) -> "tiktoken.Encoding | None":
    """A tiktoken encoding with the same ids for every text; None where they are not proven equal."""
    pattern = PATTERNS.get(pieces_of(document.get("pre_tokenizer")))
    if pattern is None or document.get("normalizer") or not all(token.special for token in added):
        return None
    if (ranks := ranks_of(document, added)) is None:
        return None
    import tiktoken

    return tiktoken.Encoding("json", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def pieces_of(part: Any) -> tuple[Piece, ...]:
    """What a pre-tokenizer is made of, in order."""
    if not isinstance(part, dict):
        return ()
    kind = part.get("type")
    if kind == "Sequence":
        return tuple(piece for each in part.get("pretokenizers") or [] for piece in pieces_of(each))
    if kind == "ByteLevel":
        return ((kind, bool(part.get("add_prefix_space", True)), bool(part.get("use_regex", True))),)
    if kind == "Digits":
        return ((kind, bool(part.get("individual_digits"))),)
    if kind == "Split":
        pattern = part.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        return ((kind, str(regex), str(part.get("behavior")), bool(part.get("invert"))),)
    return ((kind,),)


def ranks_of(document: dict[str, Any], added: Sequence["Added"]) -> dict[bytes, int] | None:
    """Bytes → id of every token that merges make, if tiktoken would make them by the same merges; else None."""
    beside = {token.id for token in added}
    vocabulary = document["model"]["vocab"]
    try:
        ranks = {to_bytes(token): number for token, number in vocabulary.items() if number not in beside}
        listed = [_pair(merge) for merge in document["model"].get("merges") or []]
        return ranks if merges_of(ranks) == listed else None
    except (ValueError, DataError):
        return None


def _pair(merge: Any) -> tuple[bytes, bytes]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return to_bytes(left), to_bytes(right)

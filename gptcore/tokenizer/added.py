"""Tokens beside the merges: the special ones, which act where a conversation's form has put them, and a few words.

The library takes an added token out of a text before it cuts the rest into words.  A special one that a text spells is
left in the text (``encode_special_tokens``), so only rendered conversations are split here, in the library's way: the
longest first, with the white space that a token takes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gptcore.tokenizer import MOST_IDS
from gptcore.untrusted import shown


@dataclass(frozen=True)
class Added:
    """A token beside the merges."""

    id: int
    content: str
    special: bool
    lstrip: bool = False
    """It takes the white space before it."""
    rstrip: bool = False
    """It takes the white space after it."""


def added_tokens(document: Mapping[str, Any]) -> list[Added]:
    """Those of a ``tokenizer.json``; raises ``ValueError`` for what is none, and for an id that stands twice."""
    listed = document.get("added_tokens") or []
    if not isinstance(listed, list):
        raise ValueError(f"added_tokens: expected a list, found {shown(listed)}")
    found = [_added(fields) for fields in listed]
    if len({token.id for token in found}) < len(found):
        raise ValueError("added_tokens: expected each id once")
    return found


def splitter(tokens: Iterable[Added]) -> re.Pattern[str]:
    """Finds them in a text: each in a group of its own, which is the only one that matched.

    The white space that a token takes before it is for the caller to strip: a pattern would look for it everywhere.
    """
    ways = [
        f"({re.escape(token.content)})" + (r"\s*" if token.rstrip else "")
        for token in sorted(tokens, key=lambda token: -len(token.content))
    ]
    return re.compile("|".join(ways) or "(?!)")


def _added(fields: Any) -> Added:
    number, content = (fields.get("id"), fields.get("content")) if isinstance(fields, dict) else (None, None)
    if type(number) is not int or not 0 <= number < MOST_IDS or not isinstance(content, str) or not content:
        raise ValueError(f"added_tokens: expected ids below {MOST_IDS:,} and their contents, found {shown(fields)}")
    if fields.get("single_word"):
        raise ValueError(f"added_tokens: {shown(content)} is one as a whole word only: this is not computed")
    return Added(number, content, *(bool(fields.get(name)) for name in ("special", "lstrip", "rstrip")))

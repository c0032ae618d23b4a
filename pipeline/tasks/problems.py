"""Problems to be solved by prompting: a question, candidate answers, solved examples."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    text: str
    """What may be cut at its end to make room; may be empty."""
    cue: str
    """What follows the text, whole, and asks for the answer."""
    answer: str


@dataclass(frozen=True)
class Problem:
    asked: Example
    candidates: tuple[str, ...]
    """In an order that doesn't tell which is right; one of them is ``asked.answer``."""
    shots: tuple[Example, ...]
    """Solved examples; a prompt with k shots shows the first k."""

    @property
    def right(self) -> int:
        return self.candidates.index(self.asked.answer)


def draw(options: Sequence[T], count: int, *key: object) -> list[T]:
    """Up to ``count`` different ``options``; what is drawn depends on ``key`` alone."""
    generator = random.Random("/".join(map(str, key)))
    return generator.sample(options, min(count, len(options)))

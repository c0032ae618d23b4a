"""Which vocabulary the text is written in."""

from dataclasses import dataclass
from typing import Annotated, Literal

from gptcore.ranges import Checked, Whole


@dataclass(frozen=True)
class TokenizerConfig(Checked):
    kind: Literal["gpt2", "bpe"]
    """GPT-2's published vocabulary, or one trained on the corpus."""
    vocab_size: Annotated[int, Whole(257, 1_000_000)]
    """Ids of a trained vocabulary, the 256 bytes and end-of-text included."""

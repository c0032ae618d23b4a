"""A vocabulary: GPT-2's, or one trained on the corpus."""

from functools import cached_property

from gptcore.tokenizer import Tokenizer
from pipeline.store.artifact import Artifact


class Vocabulary(Artifact):
    KIND = "tokenizer"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.path)

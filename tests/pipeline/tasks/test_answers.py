"""Answers do not depend on who else is asked, and what does not fit into the context is counted."""

import pytest
import torch

from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.kernels.cross_entropy import IGNORE
from gptcore.model import GPT
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.tasks.answers import answer_ids, encoded
from pipeline.tasks.instructions import Instruction

CONTEXT, NEW = 64, 24
TOKENIZER = BytePairs.train(["the king saw the sea and the sea saw the king"], 300)


def entry(words: int, output: str = "sea") -> Instruction:
    return Instruction("Say it.", "the king " * words, output, "say", "train")


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    fields = {"context_length": CONTEXT, "d_model": 32, "n_layer": 2, "n_head": 2, "positions": "rotary"}
    return GPT(GPTConfig(vocab_size=TOKENIZER.n_vocab, **fields)).eval()


def test_a_long_neighbour_pushes_no_prompt_out_of_the_context(model: GPT) -> None:
    entries = [entry(words) for words in (1, 7, 2, 4, 9, 3)]
    together = answer_ids(model, TOKENIZER, entries, NEW)
    alone = [answer_ids(model, TOKENIZER, [one], NEW)[0] for one in entries]
    assert together == alone
    assert max(map(len, alone)) == NEW  # else nothing was pushed


def test_what_lies_beyond_the_context_is_counted(model: GPT) -> None:
    fits, cut, beyond = entry(1), entry(1, "sea " * CONTEXT), entry(CONTEXT)
    made = encoded(TOKENIZER, [beyond, fits, cut], CONTEXT)
    assert (made.owners, made.cut, made.left_out) == ([1, 2], 1, 1)
    assert max(len(x) for x, _ in made.rows) == CONTEXT
    assert all(any(target != IGNORE for target in y) for _, y in made.rows)
    with pytest.raises(
        DataError, match="of the 2 entries for train, each is longer than the foundation's context of 64"
    ):
        encoded(TOKENIZER, [beyond, beyond], CONTEXT)

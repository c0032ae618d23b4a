"""Answers do not depend on who else is asked, and what does not fit into the context is counted."""

import pytest
import torch

from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.kernels.cross_entropy import IGNORE
from gptcore.model import GPT
from gptcore.prompt import prompt_ids
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.tasks.answers import answer_ids, encoded
from pipeline.tasks.instructions import Instruction

CONTEXT, NEW = 96, 24
TOKENIZER = BytePairs.train(["the king saw the sea and the sea saw the king"], 300)


def entry(words: int, output: str = "sea") -> Instruction:
    return Instruction("Say it.", "the king " * words, output, "say", "train")


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    fields = {"context_length": CONTEXT, "d_model": 32, "n_layer": 2, "n_head": 2, "positions": "rotary"}
    made = GPT(GPTConfig(vocab_size=TOKENIZER.n_vocab, **fields)).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight *= 8  # what it says then hangs on all that it has read
    return made


def test_a_long_neighbour_pushes_no_prompt_out_of_the_context(model: GPT) -> None:
    entries = [entry(words) for words in (1, 7, 2, 18, 4, 9, 3)]
    lengths = sorted(len(prompt_ids(TOKENIZER, e.instruction, e.input)) for e in entries)
    assert lengths[-2] + NEW <= CONTEXT < lengths[-1] + NEW
    together = answer_ids(model, TOKENIZER, entries, NEW)
    alone = [answer_ids(model, TOKENIZER, [one], NEW)[0] for one in entries]
    assert together == alone
    assert len(alone[3]) == NEW  # else nothing was pushed
    assert len({tuple(ids) for ids in alone}) == len(alone)  # else nothing could be seen of it


def test_what_lies_beyond_the_context_is_counted(model: GPT) -> None:
    fits, cut, beyond = entry(1), entry(1, "sea " * CONTEXT), entry(CONTEXT)
    made = encoded(TOKENIZER, [beyond, fits, cut], CONTEXT)
    assert (made.owners, made.cut, made.left_out) == ([1, 2], 1, 1)
    assert max(len(x) for x, _ in made.rows) == CONTEXT
    assert all(any(target != IGNORE for target in y) for _, y in made.rows)
    with pytest.raises(
        DataError, match="of the 2 entries for train, each is longer than the foundation's context of 96"
    ):
        encoded(TOKENIZER, [beyond, beyond], CONTEXT)

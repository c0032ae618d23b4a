"""Instruction tuning: next-token prediction, where only the model's answers, their ends included, carry loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from gptcore.data import Batch, EnteringBatch, LengthBatches, pad
from gptcore.kernels.cross_entropy import IGNORE, next_token_loss
from gptcore.model import GPT
from gptcore.objectives import Facts
from gptcore.prompt import example_ids
from gptcore.tokenizer import Message, Tokenizer

Example = tuple[list[int], list[int]]
"""Input ids and targets."""


@dataclass(frozen=True)
class Response:
    """The objective over encoded ``rows``, in batches of similar length."""

    rows: Sequence[Example]
    batch_rows: int
    pad_id: int
    seed: int

    def batches(self, start: int) -> Iterator[Batch]:
        for indices in self._order().starting_at(start):
            yield instruction_batch([self.rows[i] for i in indices], self.pad_id)

    def indices(self, number: int) -> list[int]:
        """The rows of one batch."""
        return self._order().batch(number)

    def loss(self, model: GPT, batch: Batch | EnteringBatch) -> tuple[Tensor, Facts]:
        return response_loss(model, batch), {}

    def _order(self) -> LengthBatches:
        return LengthBatches([len(x) for x, _ in self.rows], self.batch_rows, self.seed)


def response_loss(model: GPT, batch: Batch | EnteringBatch) -> Tensor:
    """Cross-entropy in nats per response token of x, y (B, T); the head never sees the prompts' positions."""
    x, y, *entering = batch
    counted = y != IGNORE
    return next_token_loss(model.hidden(x, *entering)[counted], model.head.weight, y[counted])


def instruction_example(tokenizer: Tokenizer, instruction: str, input_text: str, output: str) -> Example:
    """Input ids and targets of one example; targets of the prompt are ``IGNORE``.

    The response is encoded by itself, exactly as generation will produce it, and ends with what ends an answer.
    """
    (example,) = conversation_examples(tokenizer, instruction, input_text, output)
    return example


def conversation_examples(
    tokenizer: Tokenizer, instruction: str, input_text: str, output: str, history: Sequence[Message] = ()
) -> list[Example]:
    """Input ids and targets of a conversation; every answer of the model carries loss, and nothing else does.

    Each answer stands behind what generation would see before it.  One row holds them all, unless the model's form
    writes an earlier turn otherwise once the conversation goes on (Qwen3 drops what it thought): then a new row begins.
    """
    rows: list[Example] = []
    ids: list[int] = []
    targets: list[int] = []
    for prompt, response in _turns(tokenizer, instruction, input_text, output, history):
        if prompt[: len(ids)] != ids:
            rows.append((ids[:-1], targets[1:]))
            ids, targets = [], []
        targets += [IGNORE] * (len(prompt) - len(ids)) + response
        ids = prompt + response
    return [*rows, (ids[:-1], targets[1:])]


def _turns(
    tokenizer: Tokenizer, instruction: str, input_text: str, output: str, history: Sequence[Message]
) -> Iterator[tuple[list[int], list[int]]]:
    """For each answer of the model, (ids of everything before it, its own)."""
    for place, message in enumerate(history):
        if message["role"] == "assistant":
            yield example_ids(tokenizer, history[place - 1]["content"], "", message["content"], history[: place - 1])
    yield example_ids(tokenizer, instruction, input_text, output, history)


def instruction_batch(examples: Sequence[Example], pad_id: int) -> Batch:
    """Examples as x, y (B, T), padded on the right; padding carries no loss."""
    return pad([x for x, _ in examples], pad_id), pad([y for _, y in examples], IGNORE)


OBJECTIVE = Response

"""A model's answers to instructions, and what the right ones cost it.

Entries are taken in batches of similar length: prompts padded on the left for generating, examples on the right for
the loss.  A batch's neighbours change nothing but the last bits of a sum.  A prompt that an answer may push out of
the context is therefore alone: what of it goes then depends on its own length.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from gptcore import runtime
from gptcore.data import by_length
from gptcore.errors import DataError
from gptcore.evaluate import evaluating
from gptcore.inference.generate import generate
from gptcore.kernels.cross_entropy import IGNORE
from gptcore.model import GPT
from gptcore.objectives.response import Example, conversation_examples, instruction_batch, response_loss
from gptcore.prompt import prompt_ids
from gptcore.tokenizer import Tokenizer
from pipeline.tasks.instructions import Instruction
from pipeline.tracking.progress import answering

BATCH_ROWS = 64


def answer(model: GPT, encoder: Tokenizer, entries: Sequence[Instruction], max_new_tokens: int) -> list[str]:
    """The model's greedy answers."""
    return [text_of(encoder, ids) for ids in answer_ids(model, encoder, entries, max_new_tokens)]


def answer_ids(
    model: GPT,
    encoder: Tokenizer,
    entries: Sequence[Instruction],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    key: object = 0,
) -> list[list[int]]:
    """Ids of the model's answers, each with what ends it, unless it was cut at ``max_new_tokens``.

    ``temperature`` 0 is greedy; what is drawn otherwise depends on ``key`` and the entries alone.
    """
    prompts = [prompt_ids(encoder, e.instruction, e.input, e.history) for e in entries]
    answers: list[list[int]] = [[] for _ in prompts]
    with answering("answers", len(prompts)) as bar:
        for number, chunk in enumerate(_batches(prompts, model.config.context_length - max_new_tokens)):
            seed = random.Random(f"{key}/{number}").getrandbits(63)
            rows = _continued(model, encoder, [prompts[i] for i in chunk], max_new_tokens, temperature, seed)
            for i, row in zip(chunk, rows, strict=True):
                answers[i] = row
            bar.update(len(chunk))
    return answers


def _batches(prompts: Sequence[list[int]], longest: int) -> Iterator[list[int]]:
    """Numbers of prompts that are answered together, those of more than ``longest`` ids one by one."""
    for chunk in by_length(prompts, BATCH_ROWS):
        fitting = [i for i in chunk if len(prompts[i]) <= longest]
        if fitting:
            yield fitting
        yield from ([i] for i in chunk[len(fitting) :])


def _continued(
    model: GPT, encoder: Tokenizer, prompts: Sequence[list[int]], max_new_tokens: int, temperature: float, seed: int
) -> Iterator[list[int]]:
    """What follows each prompt, up to and with what ends it."""
    width = max(map(len, prompts))
    ids = torch.tensor([[encoder.eot] * (width - len(prompt)) + prompt for prompt in prompts])
    real = torch.tensor([[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts])
    new = generate(model, ids, max_new_tokens, temperature=temperature, seed=seed, stop=encoder.stop, padding=real)
    for row in new[:, width:].tolist():
        yield row[: row.index(encoder.stop) + 1] if encoder.stop in row else row


def text_of(encoder: Tokenizer, ids: Sequence[int]) -> str:
    """What an answer says, without what ends it."""
    return encoder.decode(ids[:-1] if ids and ids[-1] == encoder.stop else ids).strip()


@dataclass
class Encoded:
    """Entries with their right answers, as far as they fit into the context."""

    rows: list[Example] = field(default_factory=list)
    """Input ids and targets."""
    owners: list[int] = field(default_factory=list)
    """Number of each row's entry."""
    cut: int = 0
    """Rows whose end is beyond the context."""
    left_out: int = 0
    """Rows of which all answers are: there is nothing to learn or to measure."""


def encoded(encoder: Tokenizer, entries: Sequence[Instruction], context: int) -> Encoded:
    """Raises ``DataError`` if no answer of the entries fits into the context, not even its beginning."""
    made = Encoded()
    for number, e in enumerate(entries):
        for x, y in conversation_examples(encoder, e.instruction, e.input, e.output, e.history):
            if all(target == IGNORE for target in y[:context]):
                made.left_out += 1
                continue
            made.cut += len(x) > context
            made.rows.append((x[:context], y[:context]))
            made.owners.append(number)
    if not made.rows:
        raise DataError(
            f"instructions: of the {len(entries)} entries for {entries[0].split}, each is longer than the foundation's "
            f"context of {context} tokens before its answer begins; shorten them"
        )
    return made


def mean_loss(model: GPT, rows: Sequence[Example], pad_id: int, dtype: str) -> float:
    """Nats per response token."""
    total, count = 0.0, 0
    with evaluating(model):
        for chosen in by_length([x for x, _ in rows], BATCH_ROWS):
            batch = instruction_batch([rows[i] for i in chosen], pad_id)
            tokens = int((batch[1] != IGNORE).sum())
            with runtime.autocast(dtype):
                total += response_loss(model, batch).item() * tokens
            count += tokens
    return total / count


def by_kind(entries: Sequence[Instruction]) -> Iterator[tuple[str, list[int]]]:
    """Each kind with the numbers of its entries."""
    for kind in sorted({entry.kind for entry in entries}):
        yield kind, [i for i, entry in enumerate(entries) if entry.kind == kind]

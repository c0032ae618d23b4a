"""Instruction tuning: what carries loss, in which batches, and that it is learned."""

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gptcore.inference.generate import generate
from gptcore.kernels.cross_entropy import IGNORE
from gptcore.objectives import OBJECTIVES
from gptcore.objectives.next_token import language_loss
from gptcore.objectives.response import (
    Response,
    conversation_examples,
    instruction_batch,
    instruction_example,
    response_loss,
)
from gptcore.prompt import format_prompt, format_response
from gptcore.tokenizer import END_OF_TEXT
from gptcore.train import TrainConfig, train

lines = st.text(max_size=20)


@settings(max_examples=80, deadline=None)
@given(lines, lines, lines)
def test_only_the_response_and_its_end_carry_loss(tokenizer, instruction: str, input_text: str, output: str):
    x, y = instruction_example(tokenizer, instruction, input_text, output)
    prompt = tokenizer.encode(format_prompt(instruction, input_text))
    counted = [target != IGNORE for target in y]
    assert len(x) == len(y)
    assert counted == [False] * (len(prompt) - 1) + [True] * (len(y) - len(prompt) + 1)
    assert tokenizer.decode(y[len(prompt) - 1 :]) == format_response(output) + END_OF_TEXT
    assert tokenizer.decode(x) == format_prompt(instruction, input_text) + format_response(output)
    assert all(target in (IGNORE, following) for target, following in zip(y, x[1:], strict=False))


@pytest.mark.parametrize("loss", [language_loss, response_loss])
def test_a_batch_pads_without_loss(tokenizer, make_gpt, loss):
    """The loss of a batch is the mean over all response tokens, as if each example had been alone."""
    examples = [instruction_example(tokenizer, "Say", word, word * 3) for word in ("a", "import", "of the")]
    x, y = instruction_batch(examples, tokenizer.eot)
    assert x.shape == y.shape == (3, max(len(row) for row, _ in examples))
    assert ((y != IGNORE).sum(1).tolist()) == [sum(t != IGNORE for t in row) for _, row in examples]
    model = make_gpt(vocab_size=tokenizer.n_vocab, context_length=64)
    alone = [
        F.cross_entropy(model(torch.tensor([a]))[0], torch.tensor(b), ignore_index=IGNORE, reduction="sum").item()
        for a, b in examples
    ]
    expected = sum(alone) / (y != IGNORE).sum().item()
    assert loss(model, (x, y)).item() == pytest.approx(expected, rel=1e-5)


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(words, words), min_size=1, max_size=3), min_size=1, max_size=4))
def test_no_conversation_sees_its_neighbours(tokenizer, wide_model, talks: list[list[tuple[str, str]]]):
    """The nats of a batch are those of its rows alone, however long its neighbours are and whatever they say."""
    rows = [row for talk in talks for row in conversation_examples(tokenizer, *last_turn(talk))]
    assert len(rows) == len(talks)
    with torch.no_grad():
        x, y = instruction_batch(rows, tokenizer.eot)
        together = response_loss(wide_model, (x, y)).item() * (y != IGNORE).sum().item()
        alone = [
            F.cross_entropy(wide_model(torch.tensor([a]))[0], torch.tensor(b), ignore_index=IGNORE, reduction="sum")
            for a, b in rows
        ]
    assert together == pytest.approx(sum(alone).item(), rel=1e-4)


@pytest.fixture(scope="module")
def wide_model(tokenizer, make_gpt):
    return make_gpt(vocab_size=tokenizer.n_vocab, context_length=400)


def last_turn(talk: list[tuple[str, str]]) -> tuple[str, str, str, list[dict[str, str]]]:
    history = [
        {"role": role, "content": text}
        for turn in talk[:-1]
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return talk[-1][0], "", talk[-1][1], history


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_every_answer_of_a_conversation_carries_loss_and_nothing_else(tokenizer, talk: list[tuple[str, str]]):
    """In this project's own form: answers with their ends are the targets, each behind what generation would see."""
    ((x, y),) = conversation_examples(tokenizer, *last_turn(talk))
    assert [t for t in y if t != IGNORE] == [
        id for _, answer in talk for id in [*tokenizer.encode(format_response(answer)), tokenizer.eot]
    ]
    assert all(target in (IGNORE, following) for target, following in zip(y, x[1:], strict=False))
    told = "".join(format_prompt(asked) + format_response(answer) + END_OF_TEXT for asked, answer in talk)
    assert tokenizer.decode([*x, y[-1]]) == told


def test_the_head_sees_the_positions_that_count_and_no_others(tokenizer, make_gpt):
    """The same gradients as with all positions, at a fraction of the head's work."""
    examples = [instruction_example(tokenizer, "Say", word, word) for word in ("a", "import", "of the")]
    x, y = instruction_batch(examples, tokenizer.eot)
    gradients = []
    for loss in (language_loss, response_loss):
        model = make_gpt(vocab_size=tokenizer.n_vocab, context_length=64)
        loss(model, (x, y)).backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_objective_gives_every_row_from_any_batch_on():
    rows = [([i] * (1 + i % 5), [i + 1] * (1 + i % 5)) for i in range(40)]
    objective = OBJECTIVES["response"](rows, batch_rows=6, pad_id=60, seed=3)
    assert isinstance(objective, Response)
    epoch = list(islice(objective.batches(0), 7))
    assert sorted(i for x, _ in epoch for i in x[:, 0].tolist()) == list(range(40))
    for x, y in epoch:
        assert torch.equal(torch.stack([x, y]), torch.stack(instruction_batch([rows[i] for i in x[:, 0].tolist()], 60)))
    for (x, y), (again, same) in zip(epoch[3:], objective.batches(3), strict=False):
        assert torch.equal(x, again)
        assert torch.equal(y, same)


def test_the_objective_s_loss_says_nothing_beside(tokenizer, make_gpt):
    model = make_gpt(vocab_size=tokenizer.n_vocab, context_length=64)
    batch = instruction_batch([instruction_example(tokenizer, "Say", "a", "aa")], tokenizer.eot)
    value, facts = Response([], 1, tokenizer.eot, 0).loss(model, batch)
    assert torch.equal(value, response_loss(model, batch))
    assert facts == {}


def test_a_tuned_model_answers_and_stops(tokenizer, make_gpt):
    """From the example to the generated text: prompt, mask and end of text fit together."""
    model = make_gpt(vocab_size=tokenizer.n_vocab, context_length=48)
    answers = {"red": "stop", "green": "go"}
    batch = instruction_batch(
        [instruction_example(tokenizer, "Light?", colour, answer) for colour, answer in answers.items()], tokenizer.eot
    )
    list(train(model, [batch] * 60, TrainConfig(max_steps=60, learning_rate=3e-3, dtype="float32")))
    for colour, answer in answers.items():
        prompt = tokenizer.encode(format_prompt("Light?", colour))
        ids = generate(model, torch.tensor([prompt]), 20, stop=tokenizer.eot)[0, len(prompt) :].tolist()
        assert tokenizer.decode(ids) == format_response(answer) + END_OF_TEXT

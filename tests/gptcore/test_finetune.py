"""Classifier and instruction examples.  That the classifier is `transformers`' own is shown in `test_gpt2.py`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gptcore.finetune import (
    Classifier,
    classification_loss,
    format_prompt,
    format_response,
    instruction_batch,
    instruction_example,
    pad,
)
from gptcore.generate import generate
from gptcore.losses import IGNORE
from gptcore.tokenizer import END_OF_TEXT
from gptcore.train import TrainConfig, language_loss, train


@pytest.fixture
def classifier(make_gpt) -> Classifier:
    model = Classifier(make_gpt(), ["no", "yes", "maybe"], pad_id=60)
    torch.nn.init.normal_(model.score.weight)
    return model.eval()


# --- classifier ------------------------------------------------------------------------------------------


def test_a_row_is_judged_by_its_last_real_token_whatever_follows(classifier: Classifier):
    rows = [torch.randint(60, (n,)).tolist() for n in (9, 1, 5)]
    logits = classifier(pad(rows, 60))
    assert logits.shape == (3, 3)
    for row, found in zip(rows, logits, strict=True):
        hidden = classifier.gpt.hidden(torch.tensor([row]))[0, -1]
        torch.testing.assert_close(found, classifier.score.weight @ hidden, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(classifier(torch.tensor([[*row, 60, 60]]))[0], found, rtol=1e-4, atol=1e-4)


def test_padding_within_a_row_is_a_token(classifier: Classifier):
    whole = torch.tensor([[5, 60, 7]])
    torch.testing.assert_close(
        classifier(whole)[0], classifier.score.weight @ classifier.gpt.hidden(whole)[0, 2], rtol=1e-4, atol=1e-4
    )


def test_a_row_of_nothing_but_padding_is_judged_by_its_first(classifier: Classifier):
    torch.testing.assert_close(classifier(torch.full((1, 5), 60)), classifier(torch.full((1, 1), 60)))


def test_the_loss_is_cross_entropy_and_the_labels_are_counted(classifier: Classifier):
    ids, labels = torch.randint(60, (4, 6)), torch.tensor([0, 2, 1, 1])
    expected = -classifier(ids).log_softmax(-1)[range(4), labels].mean()
    assert classification_loss(classifier, (ids, labels)).item() == pytest.approx(expected.item(), rel=1e-6)
    assert classifier.n_labels == 3


def test_a_classifier_learns_a_rule(make_gpt):
    """Whether a row starts with an even or an odd token; the first token is far from where it is judged."""
    torch.manual_seed(0)
    model = Classifier(make_gpt(), ["even", "odd"], pad_id=60)
    config = TrainConfig(max_steps=80, learning_rate=3e-3, dtype="float32")

    def batches():
        while True:
            ids = torch.randint(8, (32, 6))
            yield ids, ids[:, 0] % 2

    list(train(model, batches(), config, loss=classification_loss))
    ids = torch.randint(8, (200, 6))
    assert (model.eval()(ids).argmax(-1) == ids[:, 0] % 2).float().mean() > 0.95


# --- instructions ----------------------------------------------------------------------------------------


def test_the_prompt_has_its_one_form():
    assert format_prompt("Add.", "1 2") == "### Instruction: Add.\n### Input: 1 2\n### Response:"
    assert format_prompt("Sing.") == "### Instruction: Sing.\n### Response:"
    assert format_response("3") == " 3"


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


def test_a_batch_pads_without_loss(tokenizer, make_gpt):
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
    assert language_loss(model, (x, y)).item() == pytest.approx(expected, rel=1e-5)


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

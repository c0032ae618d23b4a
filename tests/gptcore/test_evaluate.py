"""Scores against slow and simple oracles: one token at a time, and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.data import pad
from gptcore.evaluate import accuracy, bits_per_byte, document_nats, labels_of, macro_f1, perplexity, stream_loss
from gptcore.kernels.cross_entropy import IGNORE
from gptcore.model import GPT, Classifier

EOT = 60


def document(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 60, length).astype(np.uint16)


@torch.inference_mode()
def nats_one_by_one(model: GPT, ids: np.ndarray, stride: int, context: int = 0) -> float:
    """-ln p of each token from the first window that has it as a target; no batch, no padding, no cache."""
    context = context or model.config.context_length
    tokens = [EOT, *ids.tolist()]
    total = 0.0
    for i in range(1, len(tokens)):
        start = stride * max(0, -(-(i - context) // stride))
        logits = model(torch.tensor([tokens[start:i]]))[0, -1]
        total -= logits.log_softmax(dim=-1)[tokens[i]].item()
    return total


@pytest.mark.parametrize("lengths", [[1], [16], [17], [24], [100], [5, 40, 16, 1, 33, 0]])
@pytest.mark.parametrize("stride", [None, 1, 5, 16])
def test_nats_are_those_of_one_token_at_a_time(make_gpt, lengths: list[int], stride: int | None):
    model = make_gpt()
    documents = [document(length, seed) for seed, length in enumerate(lengths)]
    expected = sum(nats_one_by_one(model, ids, stride or 8) for ids in documents)
    assert document_nats(model, documents, EOT, stride=stride, batch_windows=3) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("context", "stride"), [(9, None), (9, 9), (9, 2), (1, 1), (16, 5)])
def test_a_model_can_be_asked_to_see_less(make_gpt, context: int, stride: int | None):
    model = make_gpt()
    documents = [document(length, length) for length in (40, 3, 17)]
    expected = sum(nats_one_by_one(model, ids, stride or context // 2, context) for ids in documents)
    found = document_nats(model, documents, EOT, context=context, stride=stride, batch_windows=3)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_model_is_not_asked_to_see_more_than_it_can(make_gpt):
    with pytest.raises(ValueError, match="context = 17: expected at most 16"):
        document_nats(make_gpt(), [document(50)], EOT, context=17)


@settings(max_examples=25, deadline=None)
@given(context=st.integers(1, 9), data=st.data())
def test_any_window_counts_each_token_once(make_gpt, context: int, data: st.DataObject):
    model = make_gpt(context_length=context)
    stride = data.draw(st.one_of(st.none(), st.integers(1, context)))
    lengths = data.draw(st.lists(st.integers(0, 30), max_size=3))
    documents = [document(length, seed) for seed, length in enumerate(lengths)]
    expected = sum(nats_one_by_one(model, ids, stride or max(1, context // 2)) for ids in documents)
    assert document_nats(model, documents, EOT, stride=stride) == pytest.approx(expected, rel=1e-5)


def test_a_model_of_chance_has_the_nats_of_chance(make_gpt):
    model = make_gpt()
    torch.nn.init.zeros_(model.token_embedding.weight)
    assert document_nats(model, [document(50), document(3)], EOT) == pytest.approx(53 * math.log(61), rel=1e-6)


@pytest.mark.parametrize("stride", [0, -1, 17])
def test_a_stride_that_would_leave_tokens_out_is_refused(make_gpt, stride: int):
    with pytest.raises(ValueError, match=f"stride = {stride}: expected 1 … 16"):
        document_nats(make_gpt(), [document(50)], EOT, stride=stride)


@pytest.mark.parametrize("batch_windows", [1, 2, 7, 100])
def test_the_size_of_the_batches_changes_nothing(make_gpt, batch_windows: int):
    documents = [document(n, n) for n in (70, 3, 20)]
    expected = document_nats(make_gpt(), documents, EOT)
    assert document_nats(make_gpt(), documents, EOT, batch_windows=batch_windows) == pytest.approx(expected, rel=1e-6)


def test_in_bfloat16_the_score_is_nearly_the_same(make_gpt):
    documents = [document(100)]
    exact = document_nats(make_gpt(), documents, EOT)
    rough = document_nats(make_gpt(), documents, EOT, dtype="bfloat16")
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.02)


def test_the_loss_of_a_stream_is_the_mean_over_counted_tokens(make_gpt):
    model = make_gpt()
    batches = []
    for rows in (1, 4):
        x, y = torch.randint(61, (rows, 12)), torch.randint(61, (rows, 12))
        y[0, :5] = IGNORE
        batches.append((x, y))
    nats = [
        -model(x).log_softmax(-1)[b, t, y[b, t]].item()
        for x, y in batches
        for b in range(len(x))
        for t in range(12)
        if y[b, t] != IGNORE
    ]
    assert len(nats) == 50
    assert stream_loss(model, batches, dtype="float32") == pytest.approx(sum(nats) / 50, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_mode_gradients_and_random_numbers_alone(make_gpt, training: bool):
    model = make_gpt(dropout=0.5).train(training)
    x = torch.randint(61, (2, 8))
    model(x).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first = document_nats(model, [document(30)], EOT), stream_loss(model, [(x, x)])
    assert torch.equal(torch.rand(3), expected)
    assert (document_nats(model, [document(30)], EOT), stream_loss(model, [(x, x)])) == first, "dropout was on"
    assert model.training == training
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


def test_the_mode_comes_back_after_an_error_too(make_gpt):
    model = make_gpt().train()
    with pytest.raises(IndexError):
        stream_loss(model, [(torch.full((1, 2), 99), torch.zeros(1, 2, dtype=torch.long))])
    assert model.training


def test_perplexity_and_bits_per_byte_by_hand():
    assert perplexity(nats=10 * math.log(8), tokens=10) == pytest.approx(8)
    assert bits_per_byte(nats=math.log(2) * 24, n_bytes=12) == pytest.approx(2)


# --- classification --------------------------------------------------------------------------------------

LABELS = ["earn", "acq", "crude", "ship"]
answers = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


@settings(deadline=None)
@given(answers)
def test_accuracy_and_f1_are_those_of_scikit_learn(pairs: list[tuple[str, str]]):
    from sklearn.metrics import accuracy_score, f1_score

    predicted, actual = [p for p, _ in pairs], [a for _, a in pairs]
    assert accuracy(predicted, actual) == pytest.approx(accuracy_score(actual, predicted))
    expected = f1_score(actual, predicted, labels=LABELS, average="macro", zero_division=0)
    assert macro_f1(predicted, actual, LABELS) == pytest.approx(expected)


def test_labels_are_those_of_each_row_alone_and_all_rows_are_told(make_gpt):
    model = Classifier(make_gpt(), ["a", "b", "c"], pad_id=60).eval()
    torch.nn.init.normal_(model.score.weight)
    rows = [torch.randint(60, (length,)).tolist() for length in (5, 1, 9, 3, 7, 2, 8)]
    told: list[int] = []
    labels, confidence = labels_of(model, rows, batch_rows=3, watch=told.append)
    alone = [labels_of(model, [row]) for row in rows]
    assert labels == [label for [label], _ in alone]
    assert confidence == pytest.approx([p for _, [p] in alone], rel=1e-5)
    assert told == [3, 3, 1]


def test_lists_of_two_lengths_are_refused():
    for score in (accuracy, lambda p, a: macro_f1(p, a, LABELS)):
        with pytest.raises(ValueError):
            score(["earn"], ["earn", "acq"])


def test_padding_fills_on_the_right():
    assert pad([[1, 2, 3], [], [4]], 9).tolist() == [[1, 2, 3], [9, 9, 9], [4, 9, 9]]

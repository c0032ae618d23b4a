"""Telling which label a text has: the loss, the batches, and that it is learned."""

from itertools import islice

import pytest
import torch

from gptcore.model import Classifier
from gptcore.objectives import OBJECTIVES
from gptcore.objectives.classification import Classification, classification_loss
from gptcore.train import TrainConfig, train


@pytest.fixture
def classifier(make_gpt) -> Classifier:
    model = Classifier(make_gpt(), ["no", "yes", "maybe"], pad_id=60)
    torch.nn.init.normal_(model.score.weight)
    return model.eval()


def test_the_loss_is_cross_entropy_and_the_labels_are_counted(classifier: Classifier):
    ids, labels = torch.randint(60, (4, 6)), torch.tensor([0, 2, 1, 1])
    expected = -classifier(ids).log_softmax(-1)[range(4), labels].mean()
    assert classification_loss(classifier, (ids, labels)).item() == pytest.approx(expected.item(), rel=1e-6)
    assert len(classifier.labels) == 3


@pytest.mark.parametrize("replication", [0.25, 1.0])
def test_with_target_replication_every_prefix_of_a_text_is_one_of_its_label(classifier: Classifier, replication: float):
    texts, labels = [[5, 7, 60, 7], [3], [9, 2]], [0, 2, 1]  # 60 is padding, at the end alone
    ids = torch.tensor([text + [60] * (6 - len(text)) for text in texts])
    expected = []
    for text, label in zip(texts, labels, strict=True):
        nats = [
            -classifier.score(classifier.gpt.hidden(torch.tensor([text[: n + 1]])))[0, -1].log_softmax(-1)[label]
            for n in range(len(text))
        ]
        expected.append((1 - replication) * nats[-1] + replication * sum(nats) / len(nats))
    found = classification_loss(classifier, (ids, torch.tensor(labels)), replication)
    assert found.item() == pytest.approx((sum(expected) / 3).item(), rel=1e-5)


def test_without_it_the_last_token_alone_is_asked(classifier: Classifier):
    batch = torch.randint(60, (4, 6)), torch.tensor([0, 2, 1, 1])
    nearly = classification_loss(classifier, batch, 1e-12)
    assert nearly.item() == pytest.approx(classification_loss(classifier, batch).item(), rel=1e-6)


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


def test_the_objective_gives_every_row_with_its_label_from_any_batch_on(classifier: Classifier):
    rows = [[i] * (1 + i % 5) for i in range(40)]
    objective = OBJECTIVES["classification"](rows, list(range(40)), batch_rows=6, pad_id=60, seed=3)
    assert isinstance(objective, Classification)
    epoch = list(islice(objective.batches(0), 7))
    assert sorted(label for _, labels in epoch for label in labels.tolist()) == list(range(40))
    for ids, labels in epoch:
        width = max(len(rows[label]) for label in labels)
        assert ids.tolist() == [rows[i] + [60] * (width - len(rows[i])) for i in labels.tolist()]
    for (ids, labels), (again, same) in zip(epoch[3:], objective.batches(3), strict=False):
        assert torch.equal(ids, again)
        assert torch.equal(labels, same)


def test_the_objective_s_loss_says_nothing_beside(classifier: Classifier):
    batch = torch.randint(60, (4, 6)), torch.tensor([0, 2, 1, 1])
    value, facts = Classification([], [], 1, 60, 0).loss(classifier, batch)
    assert torch.equal(value, classification_loss(classifier, batch))
    assert facts == {}

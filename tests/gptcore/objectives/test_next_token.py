"""Next-token prediction: the loss, and batches in their order."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gptcore.data import ShuffledBatches, WindowDataset
from gptcore.kernels.cross_entropy import IGNORE
from gptcore.objectives import OBJECTIVES
from gptcore.objectives.next_token import NextToken, language_loss


@pytest.fixture
def windows() -> ShuffledBatches:
    tokens = np.array([17 * i + i % 3 for i in range(900)]) % 61
    return ShuffledBatches(WindowDataset(tokens, context=16, stride=8), batch_windows=4, seed=5)


def test_the_loss_is_cross_entropy_of_the_targets_that_count(make_gpt):
    model, x, y = make_gpt(), torch.randint(61, (3, 16)), torch.randint(61, (3, 16))
    y[1, 4:] = IGNORE
    expected = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=IGNORE)
    assert language_loss(model, (x, y)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_its_batches_are_those_of_the_windows_from_any_number_on(windows: ShuffledBatches):
    objective = OBJECTIVES["next-token"].from_windows(windows)
    assert isinstance(objective, NextToken)
    for number, (x, y) in enumerate(islice(objective.batches(30), 5), start=30):
        expected_x, expected_y = windows.batch(number)
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)


def test_its_loss_says_nothing_beside(make_gpt, windows: ShuffledBatches):
    model, batch = make_gpt(), windows.batch(0)
    value, facts = NextToken(windows).loss(model, batch)
    assert torch.equal(value, language_loss(model, batch))
    assert facts == {}

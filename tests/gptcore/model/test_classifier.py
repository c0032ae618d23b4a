"""The head that labels texts.  That it is `transformers`' own is shown in `formats/test_directory.py`."""

import pytest
import torch

from gptcore.data import pad
from gptcore.model import Classifier


@pytest.fixture
def classifier(make_gpt) -> Classifier:
    model = Classifier(make_gpt(), ["no", "yes", "maybe"], pad_id=60)
    torch.nn.init.normal_(model.score.weight)
    return model.eval()


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

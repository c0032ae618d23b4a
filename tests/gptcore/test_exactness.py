"""The four published sizes at full width against `transformers`: logits, loss and gradients in fp32.

Width, heads, context and vocabulary are those of the published models, the weights are random and large; two layers
show what forty-eight would, in a thirtieth of the memory.  The bands are absolute, as they are stated: 1e-4 for logits
(which go up to about 10) and gradients, 1e-5 of the loss.  Gradients are moreover held to the size of their own tensor.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from gptcore.config import GPTConfig
from gptcore.formats.directory import load_model
from gptcore.formats.families.gpt2 import FORMAT as GPT2
from gptcore.kernels.cross_entropy import IGNORE
from gptcore.model import GPT
from gptcore.model.attention import KVCache
from gptcore.objectives.next_token import language_loss

pytestmark = pytest.mark.slow

SIZES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
BAND = 1e-4
"""Largest difference of logits and of gradients."""


@pytest.fixture(scope="module", params=SIZES)
def pair(request: pytest.FixtureRequest, make_oracle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, GPT]:
    """An oracle of a published width with random weights, and what ``load_model`` makes of its directory."""
    shape = GPTConfig.preset(request.param, n_layer=2)
    oracle = make_oracle(
        n_embd=shape.d_model, n_layer=2, n_head=shape.n_head, n_positions=1024, vocab_size=50257, eos_token_id=50256
    )
    directory = tmp_path_factory.mktemp("oracle")
    oracle.save_pretrained(directory)
    model = load_model(directory)
    for path in directory.iterdir():
        path.unlink()  # the largest takes 0.6 GB
    assert (model.config.d_model, model.config.n_head) == (shape.d_model, shape.n_head)
    return oracle, model


def random_ids(*shape: int) -> Tensor:
    return torch.randint(50257, shape, generator=torch.Generator().manual_seed(3))


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.abs().max() > 2, "values this small would agree by themselves"
    assert (ours - theirs).abs().max() <= BAND


def padding_of(lengths: tuple[int, ...], width: int) -> tuple[Tensor, Tensor]:
    """True at the real tokens of rows padded on the left, and the position of each."""
    padding = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    return padding, (padding.long().cumsum(1) - 1).clamp(min=0)


@pytest.mark.parametrize("shape", [(1, 200), (3, 20), (1, 1)], ids=["single", "batch", "token"])
def test_logits(pair: tuple[Any, GPT], shape: tuple[int, int]):
    """200 tokens are more than one block of attention."""
    oracle, model = pair
    ids = random_ids(*shape)
    with torch.inference_mode():
        assert_near(model(ids), oracle(ids).logits)


def test_logits_of_a_padded_batch(pair: tuple[Any, GPT]):
    oracle, model = pair
    ids, (padding, positions) = random_ids(3, 24), padding_of((24, 9, 1), 24)
    with torch.inference_mode():
        theirs = oracle(ids, attention_mask=padding.long(), position_ids=positions).logits
        assert_near(model(ids, padding=padding)[padding], theirs[padding])


@pytest.mark.parametrize("lengths", [(16,), (16, 16), (16, 7, 1)], ids=["single", "batch", "left-padded"])
def test_logits_with_a_cache_step_by_step(pair: tuple[Any, GPT], lengths: tuple[int, ...]):
    """A prompt of 10, then a token at a time; against the whole text at once."""
    oracle, model = pair
    ids, (padding, positions) = random_ids(len(lengths), 16), padding_of(lengths, 16)
    cache, found, end = KVCache(model.config, len(lengths)), [], 0
    with torch.inference_mode():
        for piece in ids.split([10, *[1] * 6], dim=1):
            end += piece.shape[1]
            seen = None if padding.all() else padding[:, :end]
            found.append(model(piece, padding=seen, cache=cache))
        theirs = oracle(ids, attention_mask=padding.long(), position_ids=positions).logits
        assert_near(torch.cat(found, dim=1)[padding], theirs[padding])


@pytest.mark.parametrize(("rows", "ignored"), [(1, 0), (2, 5)], ids=["single", "batch with ignored tokens"])
def test_loss_and_every_gradient(pair: tuple[Any, GPT], rows: int, ignored: int):
    oracle, model = pair
    ids = random_ids(rows, 160 if rows == 1 else 40)
    labels = ids.clone()
    labels[-1, :ignored] = IGNORE
    for each in pair:
        each.zero_grad()
    expected = oracle(ids, labels=labels).loss
    expected.backward()
    loss = language_loss(model, (ids[:, :-1], labels[:, 1:]))
    loss.backward()
    assert expected > 5
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = (dict(each.named_parameters()) for each in (model, oracle))
    rows_of_table = list(GPT2.rows(model))
    assert {row.theirs for row in rows_of_table} == set(theirs)
    for row in rows_of_table:
        found, exact = row.part.view(ours[row.ours].grad, model.config), theirs[row.theirs].grad
        largest = exact.abs().max().item()
        assert largest > 1e-3, row.theirs
        assert (found - exact).abs().max() <= BAND * min(1.0, largest), row.theirs

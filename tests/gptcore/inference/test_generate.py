"""Generation against its definition: one whole forward pass a token, filters written out in plain Python."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.inference.generate import generate, sample, stream
from gptcore.model import GPT


def greedy_by_definition(model: GPT, ids: list[int], new: int) -> list[int]:
    """No cache: the whole window through the model for each token; a full window goes on from its later half."""
    context = model.config.context_length
    ids, window = list(ids), list(ids)[-context:]
    for _ in range(new):
        token = int(model(torch.tensor([window]))[0, -1].argmax())
        ids.append(token)
        window.append(token)
        if len(window) > context:
            window = window[-max(1, context // 2) :]
    return ids


# --- greedy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt_length", [1, 5, 15, 16, 17, 40])
@pytest.mark.parametrize("new", [0, 1, 12, 50])
def test_greedy_text_is_that_of_the_definition(make_gpt, prompt_length: int, new: int):
    model = make_gpt()
    prompt = torch.randint(61, (1, prompt_length))
    found = generate(model, prompt, new)
    assert found.shape == (1, prompt_length + new)
    assert found[0].tolist() == greedy_by_definition(model, prompt[0].tolist(), new)


@pytest.mark.parametrize("context", [1, 2, 3])
def test_the_smallest_contexts_work(make_gpt, context: int):
    model = make_gpt(context_length=context)
    assert generate(model, torch.tensor([[5, 6]]), 9)[0].tolist() == greedy_by_definition(model, [5, 6], 9)


def test_rows_of_a_batch_do_not_disturb_each_other(make_gpt):
    model = make_gpt()
    prompts = torch.randint(61, (4, 6))
    together = generate(model, prompts, 25)
    for i in range(4):
        assert together[i].tolist() == generate(model, prompts[i : i + 1], 25)[0].tolist()


@pytest.mark.parametrize("new", [5, 30])
def test_padding_on_the_left_changes_no_text(make_gpt, new: int):
    """Also beyond the context, where the padding has to leave the window with its tokens."""
    model = make_gpt()
    rows = [torch.randint(61, (length,)) for length in (7, 3, 1)]
    ids = torch.stack([torch.cat([torch.full((7 - len(row),), 60), row]) for row in rows])
    padding = torch.tensor([[column >= 7 - len(row) for column in range(7)] for row in rows])
    found = generate(model, ids, new, padding=padding)
    for i, row in enumerate(rows):
        within = min(new, 16 - 7 + 1)  # as long as nothing has left the window
        alone = generate(model, row[None], within)[0, len(row) :]
        assert found[i, 7 : 7 + within].tolist() == alone.tolist()
    assert found.shape == (3, 7 + new)


def test_a_row_that_has_stopped_is_filled_and_the_end_is_when_all_have(make_gpt):
    model = make_gpt()
    prompts = torch.randint(61, (5, 4))
    free = generate(model, prompts, 40)[:, 4:]
    stop = Counter(free.flatten().tolist()).most_common(1)[0][0]
    found = generate(model, prompts, 40, stop=stop)[:, 4:]
    ends = [row.tolist().index(stop) if stop in row else 39 for row in free]
    assert len(set(ends)) > 1
    assert found.shape[1] == max(ends) + 1
    for row, unstopped, end in zip(found.tolist(), free.tolist(), ends, strict=True):
        assert row[: end + 1] == unstopped[: end + 1]
        assert set(row[end + 1 :]) <= {stop}


def test_the_stream_is_the_text_as_it_comes(make_gpt):
    model = make_gpt()
    prompt = torch.randint(61, (2, 4))
    tokens = stream(model, prompt, 8, temperature=1.0, seed=3)
    first = next(tokens)
    assert first.shape == (2,)
    whole = torch.stack([first, *tokens], dim=1)
    assert torch.equal(generate(model, prompt, 8, temperature=1.0, seed=3)[:, 4:], whole)


# --- sampling --------------------------------------------------------------------------------------------


def filtered(logits: list[float], temperature: float, top_k: int | None, top_p: float | None) -> list[float]:
    """Probabilities after the filters: the k most likely, then the fewest of these that reach p together."""
    order = sorted(range(len(logits)), key=lambda i: -logits[i])[: top_k or len(logits)]
    weights = {i: math.exp((logits[i] - max(logits)) / temperature) for i in order}
    kept, mass = [], 0.0
    for i in order:
        kept.append(i)
        mass += weights[i] / sum(weights.values())
        if top_p is not None and mass >= top_p:
            break
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(logits))]


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.integers(-40, 40), min_size=1, max_size=8, unique=True),
    temperature=st.sampled_from([0.25, 0.7, 1.0, 3.0]),
    top_k=st.one_of(st.none(), st.integers(1, 10)),
    top_p=st.one_of(st.none(), st.sampled_from([0.01, 0.3, 0.77, 0.9999, 1.0])),
)
def test_tokens_are_drawn_with_the_filtered_probabilities(logits, temperature, top_k, top_p):
    logits = [value / 10 for value in logits]
    expected = filtered(logits, temperature, top_k, top_p)
    draws, generator = 3000, torch.Generator().manual_seed(0)
    tokens = sample(torch.tensor([logits]).expand(draws, -1), temperature, top_k, top_p, generator)
    counts = torch.bincount(tokens, minlength=len(logits)).tolist()
    for count, p in zip(counts, expected, strict=True):
        assert abs(count - draws * p) <= 5 * math.sqrt(draws * p * (1 - p)) + (1 if p > 0 else 0)


def test_each_row_has_its_own_filter():
    logits = torch.tensor([[0.0, 5.0, 0.0, 0.0], [9.0, 0.0, 8.9, 0.0]])
    generator = torch.Generator().manual_seed(0)
    drawn = {tuple(sample(logits, 1.0, None, 0.6, generator).tolist()) for _ in range(100)}
    assert drawn == {(1, 0), (1, 2)}


def test_temperature_zero_and_one_most_likely_token_are_greedy(make_gpt):
    model = make_gpt()
    prompt = torch.randint(61, (3, 5))
    greedy = generate(model, prompt, 10)
    assert torch.equal(generate(model, prompt, 10, temperature=2.0, top_k=1), greedy)
    assert torch.equal(generate(model, prompt, 10, temperature=2.0, top_p=1e-9), greedy)
    assert torch.equal(generate(model, prompt, 10, temperature=1e-6), greedy)


def test_the_same_seed_gives_the_same_text_and_others_another(make_gpt):
    model = make_gpt()
    prompt = torch.randint(61, (2, 5))
    texts = [tuple(generate(model, prompt, 12, temperature=1.5, seed=seed).flatten().tolist()) for seed in (1, 2, 3, 1)]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3
    unseeded = {tuple(generate(model, prompt, 12, temperature=1.5).flatten().tolist()) for _ in range(3)}
    assert len(unseeded) == 3


@pytest.mark.parametrize("seed", [None, 1])
def test_the_global_random_numbers_stay_as_they_were(make_gpt, seed: int | None):
    model = make_gpt(dropout=0.5)
    torch.manual_seed(9)
    expected = torch.rand(4)
    torch.manual_seed(9)
    generate(model, torch.zeros(1, 1, dtype=torch.long), 20, temperature=1.0, seed=seed)
    assert torch.equal(torch.rand(4), expected)


def test_dropout_is_off(make_gpt):
    model = make_gpt(dropout=0.5).train()
    prompt = torch.randint(61, (1, 5))
    assert torch.equal(generate(model, prompt, 10), generate(make_gpt(), prompt, 10))


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        ([[]], {}, "at least one token"),
        ([1, 2], {}, r"shape \(2,\): expected \(B, T\)"),
        ([[61]], {}, "expected 0 … 60, found 61 … 61"),
        ([[-1, 5]], {}, "expected 0 … 60, found -1 … 5"),
        ([[1]], {"temperature": -0.1}, "temperature = -0.1"),
        ([[1]], {"temperature": float("nan")}, "temperature = nan"),
        ([[1]], {"temperature": 1.0, "top_k": 0}, "top_k = 0"),
        ([[1]], {"temperature": 1.0, "top_p": 0.0}, "top_p = 0.0"),
        ([[1]], {"temperature": 1.0, "top_p": 1.1}, "top_p = 1.1"),
    ],
)
def test_nonsense_is_refused(make_gpt, ids, options, message: str):
    with pytest.raises(ValueError, match=message):
        generate(make_gpt(), torch.tensor(ids, dtype=torch.long), 3, **options)

"""Likelihoods against plain full passes, prompts against what they must keep."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.config import GPTConfig
from gptcore.errors import ParameterError
from gptcore.model import GPT
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.tasks import prompting
from pipeline.tasks.problems import Example, Problem
from pipeline.tasks.prompting import BETWEEN, MIN_TEXT_TOKENS, answer_nats, build_prompt, score
from pipeline.tasks.sets.classification import TOPIC

TEXT = "the king and the queen saw the old house near the sea and the young king was not happy about the old house "
TOKENIZER = BytePairs.train([TEXT * 3], 320)
CONTEXT = 48


@pytest.fixture(scope="module")
def model() -> GPT:
    """A small model whose weights are large enough for its answers to differ."""
    torch.manual_seed(3)
    made = GPT(GPTConfig(vocab_size=TOKENIZER.n_vocab, context_length=CONTEXT, d_model=32, n_layer=2, n_head=4))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def plain_nats(model: GPT, prompt: list[int], answer: list[int]) -> float:
    """One pass over prompt and answer together, without cache, batch or padding."""
    with torch.no_grad():
        log_p = model(torch.tensor([prompt + answer])).log_softmax(dim=-1)[0]
    return -sum(log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))


def random_ids(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(TOKENIZER.n_vocab, (n,), generator=generator).tolist() for n in lengths]


# --- likelihoods ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_nats_are_those_of_a_full_pass(model: GPT, batch_size: int) -> None:
    prompts = random_ids(2, 17, 40, 9, 40)
    answers = [random_ids(1, 4), random_ids(3), random_ids(8, 1, 2), random_ids(5, 6), random_ids(7, 2, 1, 1)]
    found = answer_nats(model, prompts, answers, batch_size=batch_size, dtype="float32")
    for prompt, candidates, nats in zip(prompts, answers, found, strict=True):
        expected = [plain_nats(model, prompt, candidate) for candidate in candidates]
        assert nats == pytest.approx(expected, rel=1e-4)


def test_bfloat16_stays_near(model: GPT) -> None:
    prompts, answers = random_ids(12, 30), [random_ids(3, 4), random_ids(2, 5)]
    found = answer_nats(model, prompts, answers, dtype="bfloat16")
    for prompt, candidates, nats in zip(prompts, answers, found, strict=True):
        assert nats == pytest.approx([plain_nats(model, prompt, c) for c in candidates], rel=0.05)


def test_dropout_and_gradients_are_off(model: GPT) -> None:
    with_dropout = GPT(GPTConfig(**{**vars(model.config), "dropout": 0.5})).train()
    prompts, answers = random_ids(12), [random_ids(3, 4)]
    first, second = (answer_nats(with_dropout, prompts, answers, dtype="float32") for _ in range(2))
    assert first == second


def test_the_best_answer_has_the_fewest_nats_or_the_fewest_per_token(model: GPT) -> None:
    short, long = " king", " the old house near the sea and the queen"
    shots = (Example("", "Who was it?", " the queen"),)
    right = {who: (short, long, long)[i % 3] for i, who in enumerate(sorted(set(TEXT.split())))}
    problems = [Problem(Example("", f"{who}?", answer), (short, long), shots) for who, answer in right.items()]
    answers = [TOKENIZER.encode(candidate) for candidate in (short, long)]
    nats = {
        problem: [plain_nats(model, build_prompt(TOKENIZER, problem, 1, CONTEXT).ids, ids) for ids in answers]
        for problem in problems
    }
    by_sum = sum(n.index(min(n)) == problem.right for problem, n in nats.items())
    means = {problem: [n[0] / len(answers[0]), n[1] / len(answers[1])] for problem, n in nats.items()}
    by_mean = sum(n.index(min(n)) == problem.right for problem, n in means.items())
    assert by_sum != by_mean  # else the test could not tell them apart
    for per_token, hits in ((False, by_sum), (True, by_mean)):
        found = score(model, TOKENIZER, problems, 1, per_token=per_token, batch_size=5, dtype="float32")
        assert found == prompting.Score(hits / len(problems), mean_shots=1)


def test_a_context_without_room_for_the_answer_is_an_error(model: GPT) -> None:
    problem = Problem(Example("", "?", "queen " * CONTEXT), ("queen " * CONTEXT, "king"), ())
    with pytest.raises(ParameterError, match=r"context_length = 48: .*expected at least \d+"):
        score(model, TOKENIZER, [problem], 0, per_token=True)


# --- prompts ----------------------------------------------------------------------------------------------

PIECES = st.text("abc the king\n", max_size=60)
EXAMPLES = st.builds(
    Example, text=PIECES, cue=PIECES.map(lambda text: f"{text}?"), answer=PIECES.map(lambda t: f" {t}!")
)


@given(asked=EXAMPLES, shots=st.lists(EXAMPLES, max_size=4), room=st.integers(2, 120))
@settings(max_examples=200, deadline=None)
def test_a_prompt_fits_and_keeps_the_question_and_whole_shots(asked: Example, shots: list[Example], room: int) -> None:
    prompt = build_prompt(TOKENIZER, Problem(asked, (asked.answer,), tuple(shots)), 3, room)
    cue = TOKENIZER.encode(asked.cue)
    assert 2 <= len(prompt.ids) <= room
    assert prompt.ids[0] == TOKENIZER.eot
    assert prompt.ids[1:][-len(cue) :] == cue[-(room - 1) :]
    text = TOKENIZER.decode(prompt.ids)
    for shot in shots[: prompt.shots]:
        _, found, text = text.partition(f"{shot.cue}{shot.answer}{BETWEEN}")
        assert found


def test_where_there_is_room_nothing_is_cut() -> None:
    shots = tuple(Example(f"{who} was here", TOPIC, f" {who}") for who in ("king", "queen", "sea"))
    problem = Problem(Example("an old house", TOPIC, " sea"), (" sea",), shots)
    prompt = build_prompt(TOKENIZER, problem, 2, 1000)
    assert prompt.shots == 2
    assert TOKENIZER.decode(prompt.ids[1:]) == (
        "king was here\nTopic: king\n\nqueen was here\nTopic: queen\n\nan old house\nTopic:"
    )


def test_long_texts_are_cut_at_their_ends_to_equal_shares() -> None:
    long = TOKENIZER.encode(TEXT * 3)
    shots = (Example(TEXT * 3, TOPIC, " king"), Example("sea", TOPIC, " sea"))
    problem = Problem(Example(TEXT * 3, TOPIC, " king"), (" king",), shots)
    room = 100
    first, second, asked = TOKENIZER.decode(build_prompt(TOKENIZER, problem, 2, room).ids[1:]).split(BETWEEN)
    around = [*[TOPIC, " king", BETWEEN], *[TOPIC, " sea", BETWEEN], TOPIC]
    share = (room - 1 - sum(len(TOKENIZER.encode(part)) for part in around)) // 3
    assert MIN_TEXT_TOKENS < share < len(long)
    beginning = TOKENIZER.decode(long[:share])
    assert (first, second, asked) == (f"{beginning}\nTopic: king", "sea\nTopic: sea", f"{beginning}\nTopic:")


def test_a_shot_goes_before_a_text_says_too_little() -> None:
    shots = tuple(Example(TEXT, TOPIC, " king") for _ in range(4))
    problem = Problem(Example(TEXT, TOPIC, " king"), (" king",), shots)
    used = {room: build_prompt(TOKENIZER, problem, 4, room).shots for room in range(10, 200)}
    assert [used[room] for room in (10, 199)] == [0, 4]
    assert sorted(used.values()) == list(used.values())
    one_shot = next(room for room, shots_used in used.items() if shots_used == 1)
    whole = sum(len(TOKENIZER.encode(part)) for part in (TOPIC, " king", BETWEEN, TOPIC))
    assert one_shot == 1 + whole + 2 * MIN_TEXT_TOKENS

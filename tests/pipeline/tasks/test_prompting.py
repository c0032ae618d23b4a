"""Likelihoods against plain full passes, prompts against what they must keep."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.config import GPTConfig
from gptcore.errors import ParameterError
from gptcore.formats.directory import save_model
from gptcore.model import GPT
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.tasks import prompting
from pipeline.tasks.problems import Example, Problem
from pipeline.tasks.prompting import BETWEEN, MIN_TEXT_TOKENS, answer_nats, build_prompt, solve, taken_off
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
    by_sum = [n.index(min(n)) for n in nats.values()]
    means = [[n[0] / len(answers[0]), n[1] / len(answers[1])] for n in nats.values()]
    by_mean = [n.index(min(n)) for n in means]
    assert by_sum != by_mean  # else the test could not tell them apart
    for per_token, chosen in ((False, by_sum), (True, by_mean)):
        found = solve(model, TOKENIZER, problems, 1, per_token=per_token, batch_size=5, dtype="float32")
        assert (found.chosen, found.calibrated, found.mean_shots) == (chosen, [], 1)


def test_a_context_without_room_for_the_answer_is_an_error(model: GPT) -> None:
    problem = Problem(Example("", "?", "queen " * CONTEXT), ("queen " * CONTEXT, "king"), ())
    with pytest.raises(ParameterError, match=r"a context of 48 tokens \(evaluate\.context, or .*expected at least \d+"):
        solve(model, TOKENIZER, [problem], 0, per_token=True)


def test_a_bound_on_the_context_cuts_the_prompts(model: GPT) -> None:
    shots = tuple(Example(TEXT, TOPIC, f" {who}") for who in ("king", "queen", "sea"))
    problems = [Problem(Example(TEXT, TOPIC, " sea"), (" sea", " king"), shots)]
    long = GPT(replace(model.config, positions="rotary", context_length=1000))
    assert solve(long, TOKENIZER, problems, 3, per_token=True).mean_shots == 3
    assert solve(long, TOKENIZER, problems, 3, per_token=True, context=CONTEXT).mean_shots == 1


# --- calibration ------------------------------------------------------------------------------------------

BYTES = BytePairs.train([], 257)
LABELS = (" A", " B")


def biased() -> GPT:
    """A model made by hand: text of a's speaks for A and of b's for B, but a space before the label for A much more.

    One block whose attention is the mean of what was seen and whose MLP is silent; A and B are opposite directions.
    """
    made = GPT(GPTConfig(vocab_size=257, context_length=64, d_model=8, n_layer=1, n_head=1))
    towards_a, mass = torch.zeros(8), torch.zeros(8)
    towards_a[0], towards_a[1], mass[2], mass[3] = 1.0, -1.0, 1.0, -1.0
    vectors = {"A": towards_a, "B": -towards_a, " ": 2 * towards_a + 3 * mass, "a": towards_a, "b": -towards_a}
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.fill_(1.0 if ".ln" in f".{name}" and name.endswith("weight") else 0.0)
        for letter, vector in vectors.items():
            made.token_embedding.weight[BYTES.encode(letter)[0]] = vector
        made.blocks[0].attn.qkv.weight[16:] = torch.eye(8)  # queries and keys stay 0
        made.blocks[0].attn.proj.weight[:] = torch.eye(8)
    return made


def a_and_b(shots: tuple[Example, ...] = ()) -> list[Problem]:
    texts = {f"{letter * n}": f" {letter.upper()}" for n in (8, 9, 12) for letter in "ab"}
    return [Problem(Example(text, TOPIC, label), LABELS, shots) for text, label in texts.items()]


def test_a_model_that_prefers_a_label_says_it_always_and_calibrated_does_not() -> None:
    found = solve(biased(), BYTES, a_and_b(), 0, per_token=False, calibrate=True, dtype="float32")
    assert found.chosen == [0] * 6
    assert found.calibrated == [problem.right for problem in a_and_b()] == [0, 1] * 3


@pytest.mark.parametrize("shots", [0, 1])
@pytest.mark.parametrize("per_token", [False, True])
def test_calibrated_scores_are_those_of_transformers(
    model: GPT, tmp_path_factory: pytest.TempPathFactory, shots: int, per_token: bool
) -> None:
    """log p(answer | prompt) − log p(answer | the prompt without the text), each a full pass of another program."""
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("model")
    save_model(model, directory, TOKENIZER)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(directory, local_files_only=True).eval()

    def log_p(parts: list[str], answer: str) -> float:
        before = [TOKENIZER.eot, *(token for part in parts for token in TOKENIZER.encode(part))]
        ids = TOKENIZER.encode(answer)
        with torch.no_grad():
            found = theirs(torch.tensor([before + ids])).logits[0].log_softmax(dim=-1)
        return sum(found[len(before) - 1 + i, token].item() for i, token in enumerate(ids))

    labels = (" king", " the old house", " sea")
    shown = (Example("the sea", TOPIC, " king"), Example("the house", TOPIC, " sea"))
    texts = ["old king", "queen", "the young queen saw", "near", "happy king and queen", "not", "about the sea", "h"]
    problems = [Problem(Example(text, TOPIC, " sea"), labels, shown) for text in texts]
    found = solve(model, TOKENIZER, problems, shots, per_token=per_token, calibrate=True, batch_size=3, dtype="float32")
    assert found.mean_shots == shots  # so nothing was cut
    before = [part for shot in shown[:shots] for part in (shot.text, shot.cue, shot.answer, BETWEEN)]
    scores = [[log_p([*before, t, TOPIC], label) - log_p([*before, TOPIC], label) for label in labels] for t in texts]
    lengths = [len(TOKENIZER.encode(label)) if per_token else 1 for label in labels]
    expected = [[s / n for s, n in zip(row, lengths, strict=True)] for row in scores]
    assert found.calibrated == [row.index(max(row)) for row in expected]
    assert found.calibrated != found.chosen
    prompts = [build_prompt(TOKENIZER, problem, shots, CONTEXT - max(lengths)) for problem in problems]
    answers = [[TOKENIZER.encode(label) for label in labels]] * len(texts)
    nats = answer_nats(model, [prompt.ids for prompt in prompts], answers, dtype="float32")
    off = taken_off(nats, model, [prompt.without_text for prompt in prompts], answers, dtype="float32")
    for row, theirs_row in zip(off, scores, strict=True):
        assert row == pytest.approx([-s for s in theirs_row], abs=1e-3)


def test_the_prompt_without_the_text_is_otherwise_the_same_also_where_texts_are_cut() -> None:
    shots = (Example(TEXT * 3, TOPIC, " king"),)
    problem = Problem(Example("sea " + TEXT * 3, TOPIC, " king"), (" king",), shots)
    prompt = build_prompt(TOKENIZER, problem, 1, 100)
    full, empty = TOKENIZER.decode(prompt.ids[1:]), TOKENIZER.decode(prompt.without_text[1:])
    (first, asked), (same, nothing) = full.split(BETWEEN), empty.split(BETWEEN)
    assert first == same
    assert asked.startswith("sea the king")
    assert nothing == TOPIC


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


def test_long_texts_are_cut_at_their_ends_to_one_length_and_short_ones_stay() -> None:
    long = TOKENIZER.encode(TEXT * 3)
    shots = (Example(TEXT * 3, TOPIC, " king"), Example("sea", TOPIC, " sea"))
    problem = Problem(Example(TEXT * 3, TOPIC, " king"), (" king",), shots)
    room = 100
    first, second, asked = TOKENIZER.decode(build_prompt(TOKENIZER, problem, 2, room).ids[1:]).split(BETWEEN)
    around = [*[TOPIC, " king", BETWEEN], *[TOPIC, " sea", BETWEEN], TOPIC]
    share = (room - 1 - sum(len(TOKENIZER.encode(part)) for part in [*around, "sea"])) // 2
    assert MIN_TEXT_TOKENS < share < len(long)
    beginning = TOKENIZER.decode(long[:share])
    assert (first, second, asked) == (f"{beginning}\nTopic: king", "sea\nTopic: sea", f"{beginning}\nTopic:")


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(-5, 200))
def test_texts_keep_as_much_as_fits(lengths: list[int], room: int) -> None:
    kept = prompting._longest(lengths, room)

    def together(longest: int) -> int:
        return sum(min(length, longest) for length in lengths)

    assert together(kept) <= max(0, room)
    assert kept == max(lengths) or together(kept + 1) > room


def test_shots_of_few_words_stay_where_there_is_room() -> None:
    shots = tuple(Example("sea", TOPIC, " sea") for _ in range(4))
    problem = Problem(Example("king", TOPIC, " king"), (" king",), shots)
    whole = build_prompt(TOKENIZER, problem, 4, 1000).ids
    assert build_prompt(TOKENIZER, problem, 4, len(whole)).ids == whole
    assert build_prompt(TOKENIZER, problem, 4, len(whole) - 1).shots == 3


def test_a_shot_goes_before_a_text_says_too_little() -> None:
    shots = tuple(Example(TEXT, TOPIC, " king") for _ in range(4))
    problem = Problem(Example(TEXT, TOPIC, " king"), (" king",), shots)
    used = {room: build_prompt(TOKENIZER, problem, 4, room).shots for room in range(10, 200)}
    assert [used[room] for room in (10, 199)] == [0, 4]
    assert sorted(used.values()) == list(used.values())
    one_shot = next(room for room, shots_used in used.items() if shots_used == 1)
    whole = sum(len(TOKENIZER.encode(part)) for part in (TOPIC, " king", BETWEEN, TOPIC))
    assert one_shot == 1 + whole + 2 * MIN_TEXT_TOKENS

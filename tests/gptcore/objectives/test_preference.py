"""Preference tuning: loss, rewards and gradients are TRL's, and batches change nothing."""

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcore.formats.directory import load_model
from gptcore.model import GPT
from gptcore.objectives import OBJECTIVES
from gptcore.objectives.preference import Pair, Preference, answer_logps, pair_batch, preference_loss
from gptcore.preference_config import PreferenceLoss
from gptcore.ranges import OutOfRange
from gptcore.train import TrainConfig, train

VOCABULARY, END = 61, 60
PROMPTS = ([3, 5, 7, 11], [2], [4, 4, 9])
CHOSEN = ([13, 17], [19, 23, 29, 31, 37], [8])
REJECTED = ([41, 43, 47], [53], [8, 8])


def scored(model: GPT, pairs: list[Pair]) -> list[Pair]:
    """``pairs`` with what ``model`` as a reference thinks of them."""
    batch = pair_batch(pairs, END)
    with torch.no_grad():
        chosen, rejected = answer_logps(model, batch.x, batch.y).chunk(2)
    told = zip(pairs, chosen.tolist(), rejected.tolist(), strict=True)
    return [Pair(p.prompt, p.chosen, p.rejected, (right, wrong)) for p, right, wrong in told]


@pytest.fixture(scope="module")
def trl(make_oracle: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real DPOTrainer of two tiny models and the pairs above, spelled as words; its tokenizer, collator and loss."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    words = Tokenizer(models.WordLevel({str(i): i for i in range(END)} | {"<end>": END}, unk_token="<end>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    columns = {"prompt": PROMPTS, "chosen": CHOSEN, "rejected": REJECTED}
    text = {
        name: [" ".join(map(str, row)) + (" " * (name == "prompt")) for row in rows] for name, rows in columns.items()
    }
    text |= {name: [f"{row} " for row in text[name]] for name in ("chosen", "rejected")}  # before the end that TRL adds
    return DPOTrainer(
        model=make_oracle(seed=1, n_positions=24),
        ref_model=make_oracle(seed=2, n_positions=24),
        args=DPOConfig(
            output_dir=str(tmp_path_factory.mktemp("trl")),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
            per_device_train_batch_size=len(PROMPTS),
        ),
        train_dataset=Dataset.from_dict(text),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>"),
    )


@pytest.fixture(scope="module")
def ours(trl: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[GPT, list[Pair]]:
    """The same model, and the same pairs with the log-probabilities of the same reference."""
    places = [tmp_path_factory.mktemp(name) for name in ("model", "reference")]
    for model, place in zip((trl.model, trl.ref_model), places, strict=True):
        model.save_pretrained(place)
    pairs = [Pair(p, [*c, END], [*r, END]) for p, c, r in zip(PROMPTS, CHOSEN, REJECTED, strict=True)]
    return load_model(places[0]), scored(load_model(places[1]), pairs)


def theirs(
    trl: Any, rows: list[dict[str, list[int]]], loss: str, beta: float, smoothing: float, sft: float = 0.0
) -> Any:
    trl.loss_types, trl.loss_weights = [loss, "sft"], [1.0, sft]
    trl.beta, trl.label_smoothing = beta, smoothing
    trl.model.zero_grad()
    value = trl.compute_loss(trl.model, trl.data_collator(rows))
    value.backward()
    return value


CASES = [
    *(("sigmoid", beta, 0.0) for beta in (0.05, 0.5)),
    *(("robust", 0.1, smoothing) for smoothing in (0.0, 0.2)),
    *(("sigmoid_norm", beta, 0.0) for beta in (0.1, 2.0)),
    *(("ipo", beta, 0.0) for beta in (0.1, 0.7)),
]


@pytest.mark.parametrize(("loss", "beta", "smoothing"), CASES)
def test_loss_rewards_and_gradients_are_trl_s(trl, ours, tmp_path: Path, loss: str, beta: float, smoothing: float):
    model, pairs = ours
    expected = theirs(trl, list(trl.train_dataset), loss, beta, smoothing)
    value, facts = gradient_of(model, pairs, PreferenceLoss(loss, beta, smoothing))
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert facts["reward_margin"] == pytest.approx(trl._metrics["eval"]["rewards/margins"][-1], rel=1e-5)
    assert facts["reward_accuracy"] == pytest.approx(trl._metrics["eval"]["rewards/accuracies"][-1])
    assert_same_gradients(model, trl.model, tmp_path)


def test_smoothed_labels_are_trl_s(trl, ours, tmp_path: Path):
    """TRL smooths in this way (cDPO) in its loss ``aot`` only, which is DPO's where a batch holds a single pair."""
    model, pairs = ours
    for row, pair in zip(trl.train_dataset, pairs, strict=True):
        expected = theirs(trl, [row], "aot", 0.3, 0.1)
        value, _ = gradient_of(model, [pair], PreferenceLoss("sigmoid", 0.3, 0.1))
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
        assert_same_gradients(model, trl.model, tmp_path)


def test_with_the_chosen_answers_own_loss_it_is_trl_s(trl, ours, tmp_path: Path):
    """TRL's list of losses and weights: preference, and ``sft``."""
    model, pairs = ours
    expected = theirs(trl, list(trl.train_dataset), "sigmoid", 0.3, 0.0, sft=0.7)
    value, _ = gradient_of(model, pairs, PreferenceLoss("sigmoid", 0.3, sft_weight=0.7))
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(model, trl.model, tmp_path)


def gradient_of(model: GPT, pairs: list[Pair], form: PreferenceLoss) -> tuple[torch.Tensor, dict[str, float]]:
    model.zero_grad()
    objective = Preference(pairs, len(pairs), END, 1, form)
    value, facts = objective.loss(model, next(objective.batches(0)))
    value.backward()
    return value, facts


def assert_same_gradients(model: GPT, oracle: Any, folder: Path) -> None:
    """Theirs, written and read as if they were weights, lie as ours do."""
    gradients = type(oracle)(oracle.config)
    for parameter, of in zip(gradients.parameters(), oracle.parameters(), strict=True):
        parameter.data = of.grad
    gradients.save_pretrained(folder)
    expected = dict(load_model(folder).named_parameters())
    largest = max(p.abs().max().item() for p in expected.values())
    assert largest > 1e-3, "gradients this small would agree by themselves"
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].data, rtol=1e-4, atol=1e-5 * largest)


# --- properties -------------------------------------------------------------------------------------------

answers = st.lists(st.integers(0, END), min_size=1, max_size=6)
made_pairs = st.lists(st.builds(Pair, answers, answers, answers), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def model(make_gpt: Callable[..., GPT]) -> GPT:
    return make_gpt()


@settings(max_examples=40, deadline=None)
@given(made_pairs)
def test_a_batch_scores_each_answer_as_if_it_were_alone(model: GPT, pairs: list[Pair]):
    """Neither padding nor a neighbour is seen: log π is the sum over the answer's tokens, by PyTorch's own softmax."""
    batch = pair_batch(pairs, END)
    rows = [(p.prompt, answer) for side in ("chosen", "rejected") for p in pairs for answer in [getattr(p, side)]]
    with torch.no_grad():
        together = answer_logps(model, batch.x, batch.y)
        for found, (prompt, answer) in zip(together, rows, strict=True):
            logp = model(torch.tensor([[*prompt, *answer]]))[0, len(prompt) - 1 : -1].log_softmax(-1)
            assert found.item() == pytest.approx(logp[range(len(answer)), answer].sum().item(), rel=1e-4, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(made_pairs, st.randoms(use_true_random=False), st.sampled_from([case[0] for case in CASES]))
def test_the_order_of_a_batch_does_not_matter(model: GPT, pairs: list[Pair], random, loss: str):
    shuffled = random.sample(pairs, len(pairs))
    objective = Preference(pairs, 8, END, 1, PreferenceLoss(loss))
    with torch.no_grad():
        one, other = (objective.loss(model, pair_batch(rows, END)) for rows in (pairs, shuffled))
    assert other[0].item() == pytest.approx(one[0].item(), rel=1e-5)
    assert other[1] == pytest.approx(one[1], rel=1e-5, abs=1e-5)


ratios = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=2)


@settings(max_examples=100, deadline=None)
@given(ratios, st.floats(0.01, 2), st.floats(0, 0.45))
def test_the_losses_are_their_formulas(h: list[float], beta: float, smoothing: float):
    def loss(name: str, smoothing: float, h: list[float], lengths: tuple[int, int] = (3, 4)) -> float:
        given = [torch.tensor([x], dtype=torch.float64) for x in h]
        return preference_loss(PreferenceLoss(name, beta, smoothing), given, torch.tensor(lengths)[:, None]).item()

    right, wrong = loss("sigmoid", 0, h), loss("sigmoid", 0, h[::-1])
    assert right == pytest.approx(math.log1p(math.exp(beta * (h[1] - h[0]))))
    assert loss("sigmoid", smoothing, h) == pytest.approx((1 - smoothing) * right + smoothing * wrong)
    unbiased = ((1 - smoothing) * right - smoothing * wrong) / (1 - 2 * smoothing)
    assert loss("robust", smoothing, h) == pytest.approx(unbiased)
    assert loss("sigmoid_norm", 0, [3 * h[0], 4 * h[1]]) == pytest.approx(right)
    assert loss("ipo", 0, [3 * h[0], 4 * h[1]]) == pytest.approx((h[0] - h[1] - 1 / (2 * beta)) ** 2)


def test_a_model_that_is_its_own_reference_prefers_nothing(model: GPT):
    pairs = [Pair([1, 2], [3], [4, 5]), Pair([6], [7, 8, 9], [1])]
    value, facts = Preference(scored(model, pairs), 2, END, 1, PreferenceLoss()).loss(
        model, pair_batch(scored(model, pairs), END)
    )
    assert value.item() == pytest.approx(math.log(2))
    assert facts == {"reward_margin": 0.0, "reward_accuracy": 0.0}


def test_the_objective_gives_every_pair_from_any_batch_on():
    pairs = [Pair([i], [i] * (1 + i % 5), [i] * (1 + i % 3)) for i in range(40)]
    objective = OBJECTIVES["preference"](pairs, 6, END, 3, PreferenceLoss())
    epoch = list(islice(objective.batches(0), 7))
    assert sorted(i for batch in epoch for i in batch.x[: len(batch.x) // 2, 0].tolist()) == list(range(40))
    assert sorted(i for number in range(7) for i in objective.indices(number)) == list(range(40))
    for batch, again in zip(epoch[3:], objective.batches(3), strict=False):
        assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))


def test_dropout_is_off(make_gpt: Callable[..., GPT]):
    model = make_gpt(dropout=0.5).train()
    batch = pair_batch([Pair([1, 2], [3], [4, 5])], END)
    objective = Preference([], 1, END, 1, PreferenceLoss())
    assert torch.equal(objective.loss(model, batch)[0], objective.loss(model.train(), batch)[0])


def test_a_tuned_model_prefers_the_chosen_answers(make_gpt: Callable[..., GPT]):
    model = make_gpt(seed=3)
    pairs = scored(model, [Pair([1, 2], [3, END], [4, 5, END]), Pair([6], [7, 8, END], [1, END])])
    objective = Preference(pairs, 2, END, 1, PreferenceLoss(beta=0.5))
    config = TrainConfig(max_steps=20, learning_rate=1e-3, dtype="float32")
    steps = list(train(model, objective.batches(0), config, loss=objective.loss))
    assert steps[0].loss == pytest.approx(math.log(2))
    assert steps[-1].loss < 0.3
    assert steps[-1].facts["reward_accuracy"] == 1.0
    assert steps[-1].facts["reward_margin"] > 1


def test_a_loss_that_knows_no_flipped_pairs_refuses_smoothing():
    with pytest.raises(OutOfRange, match=r"label_smoothing = 0.1: expected 0 with loss ipo"):
        PreferenceLoss("ipo", label_smoothing=0.1)

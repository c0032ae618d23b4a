"""Groups, schedules and state of the optimizers; AdamW's path against PyTorch's, written out by hand."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from gptcore.model import GPT, Classifier
from gptcore.objectives.next_token import language_loss
from gptcore.optim import OptimConfig, Optimizers, build_optimizers, lr_scale
from gptcore.ranges import OutOfRange
from gptcore.train import TrainConfig, train


def groups(model: nn.Module, config: OptimConfig) -> dict[str, tuple[str, float, float]]:
    """Name of each parameter → (optimizer, learning rate, weight decay); fails if one is in two groups."""
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, tuple[str, float, float]] = {}
    for member in build_optimizers(model, config).members:
        for group in member.param_groups:
            for parameter in group["params"]:
                assert names[id(parameter)] not in found
                found[names[id(parameter)]] = (type(member).__name__, group["lr"], group["weight_decay"])
    return found


# --- groups ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("changes", [{}, {"tie_weights": False}, {"bias": False}])
def test_every_parameter_is_in_exactly_one_group(make_gpt, optimizer: str, changes: dict):
    model = make_gpt(**changes)
    assert set(groups(model, OptimConfig(optimizer=optimizer))) == {name for name, _ in model.named_parameters()}


def test_matrices_and_embeddings_decay_and_vectors_do_not(make_gpt):
    for name, (_, _, decay) in groups(make_gpt(), OptimConfig(weight_decay=0.3)).items():
        assert decay == (0.0 if name.endswith("bias") or ".ln_" in f".{name}" else 0.3), name


@pytest.mark.parametrize("classifier", [False, True])
def test_muon_has_the_matrices_of_the_blocks_and_nothing_else(make_gpt, classifier: bool):
    model = Classifier(make_gpt(), ["a", "b"], 0) if classifier else make_gpt(tie_weights=False)
    config = OptimConfig(optimizer="muon", learning_rate=1e-3, muon_learning_rate=0.05)
    for name, (optimizer, rate, _) in groups(model, config).items():
        is_matrix_of_a_block = "blocks." in name and name.endswith("weight") and ".ln_" not in name
        assert (optimizer, rate) == (("Muon", 0.05) if is_matrix_of_a_block else ("AdamW", 1e-3)), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_frozen_parameters_are_in_no_group_and_stay(make_gpt, optimizer: str):
    model = make_gpt()
    model.token_embedding.requires_grad_(False)
    model.blocks[0].requires_grad_(False)
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    config = TrainConfig(optimizer=optimizer, max_steps=2, dtype="float32")
    assert set(groups(model, config)) == {name for name, _ in model.named_parameters()} - set(frozen)
    ids = torch.randint(61, (2, 9))
    list(train(model, [(ids[:, :-1], ids[:, 1:])] * 2, config))
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in frozen.items())


# --- schedules -------------------------------------------------------------------------------------------


def scales(max_steps: int, **changes) -> list[float]:
    return [lr_scale(OptimConfig(**changes), step, max_steps) for step in range(max_steps)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "constant", "warmup_steps": 2}, [0.5, 1, 1, 1]),
        ({"schedule": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"schedule": "linear", "decay_fraction": 0.5}, [1, 1, 1, 0.5]),
        ({"schedule": "linear", "decay_fraction": 0.5, "min_lr_ratio": 0.2}, [1, 1, 1, 0.6]),
        ({"schedule": "linear", "decay_fraction": 0.0}, [1, 1, 1, 1]),
        ({"schedule": "linear", "warmup_steps": 3, "decay_fraction": 0.25}, [1 / 3, 2 / 3, 1, 1]),
        ({"schedule": "cosine"}, [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ({"schedule": "cosine", "warmup_steps": 2}, [0.5, 1, 1, 0.5]),
        ({"schedule": "cosine", "min_lr_ratio": 1.0}, [1, 1, 1, 1]),
        ({"schedule": "cosine", "warmup_steps": 9}, [1 / 9, 2 / 9, 3 / 9, 4 / 9]),
    ],
)
def test_schedules_have_the_values_worked_out_by_hand(changes: dict, expected: list[float]):
    assert scales(4, **changes) == pytest.approx(expected)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_the_cosine_is_that_of_pytorch(floor: float):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=37, eta_min=floor)
    for ours in scales(37, schedule="cosine", min_lr_ratio=floor):
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_schedule_stays_between_its_floor_and_its_peak(schedule: str):
    for warmup in (0, 1, 5, 100):
        found = scales(50, schedule=schedule, warmup_steps=warmup, min_lr_ratio=0.1)
        assert all(0 < scale <= 1 for scale in found)
        assert all(scale >= 0.1 for scale in found[warmup:])
        assert all(later <= earlier for earlier, later in zip(found[warmup:], found[warmup + 1 :], strict=False))


def test_both_optimizers_follow_the_schedule(make_gpt):
    optimizers = build_optimizers(
        make_gpt(), OptimConfig(optimizer="muon", learning_rate=1e-3, muon_learning_rate=0.02)
    )
    for scale in (0.5, 0.25, 1.0):
        optimizers.set_lr(scale)
        assert {g["lr"] for m in optimizers.members for g in m.param_groups} == {1e-3 * scale, 0.02 * scale}


# --- steps -----------------------------------------------------------------------------------------------


def test_the_path_of_adamw_is_that_of_pytorch_by_hand(make_gpt):
    """Without biases: the gradient of a key's bias is zero but for rounding, which AdamW blows up to full steps."""
    model, theirs = make_gpt(seed=1, bias=False), make_gpt(seed=1, bias=False)
    ids = torch.randint(61, (12, 4, 17))
    batches = [(x[:, :-1], x[:, 1:]) for x in ids]
    config = TrainConfig(
        max_steps=12,
        learning_rate=3e-3,
        weight_decay=0.2,
        beta1=0.8,
        beta2=0.9,
        warmup_steps=3,
        grad_clip=0.5,
        dtype="float32",
    )
    decayed = [p for p in theirs.parameters() if p.ndim == 2]
    plain = [p for p in theirs.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.8, 0.9), weight_decay=0.2, foreach=False)
    for step, ((x, y), found) in enumerate(zip(batches, train(model, batches, config), strict=True)):
        rate = 3e-3 * (step + 1) / 3 if step < 3 else 3e-3 * (1 + math.cos(math.pi * (step - 3) / 9)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = nn.functional.cross_entropy(theirs.train()(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in theirs.parameters()))
        for parameter in theirs.parameters():
            parameter.grad.mul_(min(1.0, 0.5 / (norm + 1e-6)))
        optimizer.step()
        assert found.loss == pytest.approx(loss.item(), rel=1e-5)
        assert found.grad_norm == pytest.approx(norm, rel=1e-4)
        assert found.learning_rate == pytest.approx(rate)
    assert norm > 0.5, "the gradient was never clipped"
    for (name, ours), parameter in zip(model.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_state_moves_to_other_optimizers_bit_for_bit(make_gpt, optimizer: str):
    config = OptimConfig(optimizer=optimizer, learning_rate=1e-2)
    one, other = make_gpt(), make_gpt()
    first, second = build_optimizers(one, config), build_optimizers(other, config)
    assert first.state_tensors() == {}

    def step(model: GPT, optimizers: Optimizers) -> None:
        ids = torch.arange(30).view(2, 15)
        language_loss(model, (ids[:, :-1], ids[:, 1:])).backward()
        optimizers.step()
        optimizers.zero_grad()
        assert all(p.grad is None for p in model.parameters())

    step(one, first)
    other.load_state_dict(one.state_dict())
    second.load_state_tensors({name: tensor.clone() for name, tensor in first.state_tensors().items()})
    moved = second.state_tensors()
    assert moved.keys() == first.state_tensors().keys()
    assert all(torch.equal(moved[name], tensor) for name, tensor in first.state_tensors().items())
    step(one, first)
    step(other, second)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(OutOfRange) as caught:
        OptimConfig(
            optimizer="sgd",
            schedule="step",
            learning_rate=0.0,
            muon_learning_rate=math.inf,
            weight_decay=-1.0,
            grad_clip=math.nan,
            warmup_steps=-1,
            beta1=1.0,
            beta2=-0.1,
            decay_fraction=1.1,
            min_lr_ratio=-0.1,
        )
    fields = [problem.split(" = ")[0] for problem in caught.value.problems]
    assert sorted(fields) == sorted(set(OptimConfig.__dataclass_fields__))

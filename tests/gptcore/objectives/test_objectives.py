"""The seam of objectives, and what they have to say of a batch."""

import torch
from torch import Tensor, nn

from gptcore.objectives import OBJECTIVES, Facts
from gptcore.train import TrainConfig, train


def test_of_our_objectives_one_learns_from_windows():
    assert OBJECTIVES.names() == ["classification", "next-token", "preference", "response"]
    assert [name for name in OBJECTIVES.names() if hasattr(OBJECTIVES[name], "from_windows")] == ["next-token"]


def test_what_is_said_of_batches_is_averaged_over_a_step():
    def loss(model: nn.Module, batch: Tensor) -> tuple[Tensor, Facts]:
        return model(batch).square().mean(), {"size": float(batch[0, 0]), "one": 1.0}

    batches = [torch.full((1, 2), float(i)) for i in range(6)]
    config = TrainConfig(max_steps=3, accumulation_steps=2, dtype="float32")
    steps = list(train(nn.Linear(2, 2), batches, config, loss=loss))
    assert [step.facts for step in steps] == [{"size": 2 * i + 0.5, "one": 1.0} for i in range(3)]


def test_a_loss_may_say_nothing():
    steps = list(
        train(
            nn.Linear(2, 2),
            [torch.ones(1, 2)],
            TrainConfig(max_steps=1, dtype="float32"),
            loss=lambda model, batch: model(batch).square().mean(),
        )
    )
    assert [step.facts for step in steps] == [{}]

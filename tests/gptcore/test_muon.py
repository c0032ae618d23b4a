"""Our float32 Muon against PyTorch's, whose only difference is that it orthogonalises in bfloat16."""

import copy

import pytest
import torch

from gptcore import muon
from gptcore.muon import Muon, orthogonalised

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SHAPES = [(24, 24), (12, 40), (40, 12), (1, 6)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_takes_pytorchs_steps_but_for_bfloat16(shape: tuple[int, int]) -> None:
    mine = torch.nn.Parameter(torch.randn(shape))
    theirs = copy.deepcopy(mine)
    given = {"lr": 0.05, "weight_decay": 0.1, "nesterov": True}
    one, other = Muon([mine], **given), torch.optim.Muon([theirs], **given)
    start = mine.detach().clone()
    for _ in range(4):
        mine.grad = torch.randn(shape)
        theirs.grad = mine.grad.clone()
        one.step()
        other.step()
    assert (mine - theirs).norm() < 0.02 * (theirs - start).norm()
    assert not torch.equal(mine, theirs)
    buffers = [o.state_dict()["state"][0]["momentum_buffer"] for o in (one, other)]
    assert torch.equal(*buffers)
    assert one.state_dict()["param_groups"] == other.state_dict()["param_groups"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, dtype=torch.float64)
    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    x = S / S.norm()
    for _ in range(5):
        x = COEFFICIENTS[0] * x + COEFFICIENTS[1] * x**3 + COEFFICIENTS[2] * x**5
    torch.testing.assert_close(orthogonalised(matrix, COEFFICIENTS, 5, 1e-7), U @ torch.diag(x) @ V)


def test_a_parameter_without_gradient_stays() -> None:
    still, moved = (torch.nn.Parameter(torch.ones(3, 3)) for _ in range(2))
    optimizer = Muon([still, moved], lr=0.1)
    moved.grad = torch.randn(3, 3)
    optimizer.step()
    assert torch.equal(still, torch.ones(3, 3))
    assert not torch.equal(moved, torch.ones(3, 3))


@pytest.mark.parametrize(("packs", "kind"), [(True, torch.optim.Muon), (False, Muon)])
def test_pytorchs_own_is_taken_where_bfloat16_is_multiplied(monkeypatch, packs: bool, kind: type) -> None:
    monkeypatch.setattr(muon, "can_pack", lambda dtype: packs)
    assert type(muon.muon([torch.nn.Parameter(torch.ones(2, 2))], 0.1, 0.0)) is kind

"""Training on kept activations is the training without them up to rounding, and the same bytes after kills."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gptcore.adapters.config import AdapterConfig
from gptcore.adapters.kept import Kept, kept
from gptcore.adapters.lora import attach
from gptcore.config import GPTConfig
from gptcore.machine.identity import state_hash
from gptcore.model import GPT, Classifier
from gptcore.objectives.classification import Classification
from gptcore.objectives.response import Response
from gptcore.optim import build_optimizers
from gptcore.train import TrainConfig, train

LLAMA = {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "tie_weights": False}
QWEN3 = LLAMA | {"n_head": 4, "n_kv_head": 2, "qk_norm": True}
NEOX = {"positions": "rotary", "residual": "parallel", "tie_weights": False}
LORA = {"rank": 2, "alpha": 4.0, "blocks": 1}
SETTINGS = TrainConfig(max_steps=9, learning_rate=0.01, dtype="float32")
PAD = 60
ROOT = Path(__file__).resolve().parents[3]


def rows(seed: int = 2, empty: bool = False) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 17, (10,), generator=generator).tolist()
    found = [torch.randint(60, (n,), generator=generator).tolist() for n in lengths]
    return [*found, []] if empty else found


def tuned(make_gpt: Any, labelling: bool, keep: bool, fields: dict[str, Any], adapter: dict[str, Any]) -> Any:
    """(model, objective) of ten rows, three a batch."""
    torch.manual_seed(4)
    gpt = make_gpt(n_layer=3, **fields)
    model = Classifier(gpt, ["a", "b"], PAD) if labelling else gpt
    config = AdapterConfig(**{"blocks": 1, **adapter}, keep_activations=keep)
    attach(model, config, seed=1)
    if labelling:
        data = rows(empty=True)
        plain: Any = Classification(data, [len(row) % 2 for row in data], 3, PAD, seed=1, replication=0.3)
    else:
        data = rows()
        plain = Response([(row, [*row[1:], 7]) for row in data], 3, PAD, seed=1)
    return model, kept(plain, data, model, config, "float32", PAD, "adapter")


def prepared(objective: Any, directory: Path, batches: int = 9) -> list[Any]:
    return list(objective.prepare(directory, batches))


# --- the same function -------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelling", [True, False], ids=["labels", "responses"])
@pytest.mark.parametrize("adapter", [{}, {"blocks": 2}, LORA], ids=["last", "two", "lora"])
@pytest.mark.parametrize("fields", [{}, LLAMA, QWEN3, NEOX], ids=["gpt2", "llama", "qwen3", "neox"])
def test_loss_and_gradients_are_those_without(
    make_gpt: Any, tmp_path: Path, fields: dict[str, Any], adapter: dict[str, Any], labelling: bool
) -> None:
    """With dropout too: it is drawn for the trained blocks alone, of tensors of the same shapes."""
    losses, gradients = {}, {}
    for keep in (True, False):
        model, objective = tuned(make_gpt, labelling, keep, fields | {"dropout": 0.1}, adapter)
        assert isinstance(objective, Kept) is keep
        if keep:
            prepared(objective, tmp_path)
        model.train()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.1)
        batches = objective.batches(2)  # from a batch in the middle, through the second epoch
        losses[keep] = list[float]()
        for number in range(5):
            torch.manual_seed(number)
            loss, _ = objective.loss(model, next(batches))
            loss.backward()
            losses[keep].append(loss.item())
        gradients[keep] = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert losses[True] == pytest.approx(losses[False], rel=1e-6)
    largest = max(gradient.abs().max().item() for gradient in gradients[False].values())
    for name, gradient in gradients[False].items():
        torch.testing.assert_close(gradients[True][name], gradient, rtol=1e-4, atol=1e-6 * largest, msg=name)


def test_the_frozen_blocks_are_not_computed(make_gpt: Any, tmp_path: Path) -> None:
    """They may be anything once what they give is kept."""
    model, objective = tuned(make_gpt, True, True, {}, {})
    prepared(objective, tmp_path)
    batch = next(objective.batches(0))
    before = objective.loss(model, batch)[0]
    with torch.no_grad():
        for parameter in model.body.parameters_below():
            parameter.fill_(torch.nan)
    assert torch.equal(objective.loss(model, batch)[0], before)


def test_frozen_blocks_have_no_dropout(make_gpt: Any) -> None:
    model, _ = tuned(make_gpt, False, True, {"dropout": 0.5}, {})
    model.train()
    ids = torch.arange(16)[None]
    assert torch.equal(model.below(ids), model.below(ids))
    assert not torch.equal(model(ids), model(ids)), "the trained one has it"
    attach(other := make_gpt(dropout=0.5).train(), AdapterConfig(rank=2), seed=1)
    assert not torch.equal(other.below(ids), other.below(ids)), "LoRA trains every block, and nothing is below"


@pytest.mark.parametrize("adapter", [{"blocks": 0}, {"blocks": 0, "rank": 2}, {"blocks": 3}])
def test_nothing_is_kept_where_nothing_is_frozen_below(make_gpt: Any, adapter: dict[str, Any]) -> None:
    assert not isinstance(tuned(make_gpt, True, True, {}, adapter)[1], Kept)


def test_nothing_is_kept_where_nothing_is_read_again(make_gpt: Any, tmp_path: Path) -> None:
    """Eleven rows are four batches of three."""
    _, objective = tuned(make_gpt, True, True, {}, {})
    assert prepared(objective, tmp_path / "kept", 4) == []
    assert not (tmp_path / "kept").exists()
    assert len(next(objective.batches(0))) == 2
    assert prepared(objective, tmp_path / "kept", 5)[-1].size == 4 * 24 * sum(len(row) or 1 for row in objective.rows)


# --- the same bytes ----------------------------------------------------------------------------------------


def trained(make_gpt: Any, directory: Path) -> str:
    model, objective = tuned(make_gpt, True, True, {"dropout": 0.1}, {})
    prepared(objective, directory)
    optimizers = build_optimizers(model, SETTINGS)
    for _ in train(model, objective.batches(0), SETTINGS, loss=objective.loss, optimizers=optimizers):
        pass
    return state_hash(model)


def test_a_training_is_the_same_again_and_on_what_it_finds(make_gpt: Any, tmp_path: Path) -> None:
    assert trained(make_gpt, tmp_path / "a") == trained(make_gpt, tmp_path / "b") == trained(make_gpt, tmp_path / "a")


def test_other_weights_below_or_other_rows_are_computed_anew(make_gpt: Any, tmp_path: Path) -> None:
    model, objective = tuned(make_gpt, True, True, {}, {})
    prepared(objective, tmp_path)
    assert len(prepared(objective, tmp_path)) == 1
    first = (tmp_path / "activations").read_bytes()
    with torch.no_grad():
        model.body.blocks[1].mlp.fc.weight[0, 0] += 1
    with pytest.warns(UserWarning, match="1 of 1 pieces are damaged or of other rows or weights"):
        assert len(prepared(objective, tmp_path)) == 2
    assert (tmp_path / "activations").read_bytes() != first
    objective.rows[0][0] += 1
    with pytest.warns(UserWarning, match="of other rows"):
        assert len(prepared(objective, tmp_path)) == 2


def many_pieces() -> Any:
    """The objective over thirty-odd pieces."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"vocab_size": 61, "context_length": 512, "d_model": 32, "n_layer": 2, "n_head": 2}
    model, config = Classifier(GPT(GPTConfig(**shape)), ["a", "b"], PAD), AdapterConfig(blocks=1)
    attach(model, config, seed=1)
    data = [torch.randint(60, (400 + n % 100,)).tolist() for n in range(300)]
    plain: Any = Classification(data, [0] * 300, 4, PAD, seed=1)
    return kept(plain, data, model, config, "float32", PAD, "adapter")


CHILD = """
import sys
from pathlib import Path
from tests.gptcore.adapters.test_kept import many_pieces
for prepared in many_pieces().prepare(Path(sys.argv[1]), 200):
    print(prepared.done, flush=True)
"""


def test_a_kill_costs_no_finished_piece_and_changes_no_byte(tmp_path: Path) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(cut)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert next(line for line in child.stdout if int(line) == 9)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    uninterrupted = [step.done for step in prepared(many_pieces(), whole, 200)]
    assert uninterrupted == list(range(uninterrupted[-1] + 1))
    rest = [step.done for step in prepared(many_pieces(), cut, 200)]
    assert 9 <= rest[0] < uninterrupted[-1]
    assert rest == uninterrupted[rest[0] :]
    for name in ("activations", "sums"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()

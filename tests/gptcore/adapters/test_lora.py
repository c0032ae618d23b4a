"""What is trained and what is not, that it is the same again, and what a configuration may ask for."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gptcore import checkpoint
from gptcore.adapters.config import AdapterConfig
from gptcore.adapters.lora import LoRALinear, attach
from gptcore.adapters.peft_layout import load, save
from gptcore.errors import ParameterError
from gptcore.formats.directory import save_model
from gptcore.machine.identity import state_hash
from gptcore.model import GPT, Classifier
from gptcore.optim import build_optimizers
from gptcore.ranges import OutOfRange
from gptcore.train import TrainConfig, train

LLAMA = {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "tie_weights": False}


def trained(model: torch.nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def batches(steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(61, (2, 17), generator=generator) for _ in range(steps)]
    return [(each[:, :-1], each[:, 1:]) for each in ids]


# --- what is trained ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, LLAMA], ids=["gpt2", "llama"])
def test_at_first_it_computes_what_it_did(make_gpt, changes: dict[str, Any]):
    model, ids = make_gpt(**changes), torch.arange(16)[None]
    before = model(ids)
    attach(model, AdapterConfig(rank=4), seed=1)
    assert torch.equal(model(ids), before)


def test_A_is_uniform_as_in_peft_and_B_zero(make_gpt):
    """nn.Linear's own initialisation: within ±1/√in, with the deviation of a uniform one."""
    model = make_gpt(d_model=96, n_head=6)
    for _, A, B in attach(model, AdapterConfig(rank=64), seed=1).pairs():
        bound = 1 / math.sqrt(A.shape[1])
        assert 0.99 * bound < A.abs().max() <= bound
        assert A.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert not B.any()


def test_the_seed_alone_decides(make_gpt):
    def made(seed: int, before: int) -> str:
        torch.manual_seed(before)
        model = make_gpt()
        attach(model, AdapterConfig(rank=2), seed)
        return state_hash(model)

    assert made(1, 2) == made(1, 3) != made(4, 2)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("labelling", [True, False])
def test_the_last_blocks_are_trained_with_norm_and_own_head(make_gpt, tied: bool, labelling: bool):
    gpt = make_gpt(n_layer=3, tie_weights=tied)
    model = Classifier(gpt, ["a", "b"], 60) if labelling else gpt
    attach(model, AdapterConfig(blocks=2), seed=1)
    inside = {name.removeprefix("gpt.").partition(".weight")[0].partition(".bias")[0] for name in trained(model)}
    others = {name for name in inside if not name.startswith("blocks.")}
    head = {"score"} if labelling else set() if tied else {"head"}
    assert others == {"ln_f"} | head
    assert {name.split(".")[1] for name in inside - others} == {"1", "2"}
    assert len(inside - others) == 2 * 6


def test_frozen_weights_have_no_gradient_and_no_moments(make_gpt):
    model = make_gpt()
    adapter = attach(model, AdapterConfig(rank=2, targets=["c_attn"]), seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = TrainConfig(max_steps=2, learning_rate=0.1)
    optimizers = build_optimizers(model, config)
    for _ in train(model, batches(2), config, optimizers=optimizers):
        pass
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(trained(model)) == {f"blocks.{i}.attn.qkv.lora_{m}.whole" for i in (0, 1) for m in "AB"}
    numbers = sum(2 * A.numel() + 2 * B.numel() + 2 for _, A, B in adapter.pairs())  # two moments, and a count each
    assert sum(tensor.numel() for tensor in optimizers.state_tensors().values()) == numbers


def test_nothing_happens_by_default(make_gpt):
    model = make_gpt()
    names, before = trained(model), state_hash(model)
    adapter = attach(model, AdapterConfig(), seed=1)
    adapter.merge()
    assert (trained(model), state_hash(model), adapter.targets) == (names, before, ())
    assert not any(isinstance(module, LoRALinear) for module in model.modules())


def test_a_mixed_architecture_has_our_names(make_gpt, tmp_path: Path):
    """No family of others holds it: fused matrices, under the names of this library."""
    mixed = {"positions": "rotary", "norm": "rmsnorm"}
    model = make_gpt(**mixed)
    adapter = attach(model, AdapterConfig(rank=2, targets=["attn.qkv", "fc"]), seed=1)
    assert [target.theirs for target in adapter.targets] == [
        f"blocks.{layer}.{name}" for layer in (0, 1) for name in ("attn.qkv", "mlp.fc")
    ]
    with torch.no_grad():
        for _, _, B in adapter.pairs():
            B.normal_()
    save(adapter, tmp_path)
    other = make_gpt(**mixed)
    load(tmp_path, other)
    ids = torch.arange(16)[None]
    assert torch.equal(other(ids), model(ids))


# --- the same again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [AdapterConfig(rank=3, dropout=0.3), AdapterConfig(blocks=1)], ids=["lora", "blocks"]
)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_training_is_the_uninterrupted_one(make_gpt, tmp_path: Path, config: AdapterConfig, optimizer: str):
    """With dropout of both kinds, every bit, and the state holds no frozen weight."""
    settings = TrainConfig(max_steps=6, learning_rate=0.01, optimizer=optimizer, dtype="float32")

    def new() -> tuple[GPT, Any]:
        model = make_gpt(dropout=0.1, **LLAMA)
        attach(model, config, seed=1)
        return model, build_optimizers(model, settings)

    whole, optimizers = new()
    losses = [step.loss for step in train(whole, batches(6), settings, optimizers=optimizers)]
    cut, optimizers = new()
    for step in train(cut, batches(6), settings, optimizers=optimizers):
        if step.index == 3:
            checkpoint.save(tmp_path, cut, optimizers, 3)
            break
    torch.rand(7)
    resumed, optimizers = new()
    assert checkpoint.resume(tmp_path, resumed, optimizers) is not None
    rest = train(resumed, batches(6)[3:], settings, optimizers=optimizers, start_step=3)
    assert [step.loss for step in rest] == losses[3:]
    assert state_hash(resumed) == state_hash(whole) != state_hash(cut)
    size = (tmp_path / "step-00000003" / "weights.safetensors").stat().st_size
    assert size < 4 * sum(p.numel() for p in whole.parameters() if p.requires_grad) + 5_000


def test_dropout_is_on_what_lora_adds_alone_and_of_its_own_for_each_pair(make_gpt):
    """With ones for A and x, a pair adds a multiple of the number of inputs that were kept."""
    model = make_gpt(d_model=32, n_head=2, **LLAMA)
    adapter = attach(model, AdapterConfig(rank=1, alpha=1.0, dropout=0.25), seed=1)
    layer, x = adapter.layers[0], torch.ones(500, 32)
    with torch.no_grad():
        for matrix in (*layer.lora_A.values(), *layer.lora_B.values()):
            matrix.fill_(1.0)
        added = layer(x) - layer.base(x)  # in training mode
        kept = 0.75 * added[:, [0, 32, 64]]
        assert (kept - kept.round()).abs().max() < 1e-4
        assert kept.mean().item() == pytest.approx(24, rel=0.02)
        assert not torch.equal(kept[:, 0].round(), kept[:, 1].round())
        layer.eval()
        torch.testing.assert_close(layer(x) - layer.base(x), torch.full((500, 96), 32.0))


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rank": -1}, "rank = -1: expected a whole number in 0 … 4,096"),
        ({"alpha": 0}, "alpha = 0: expected a number above 0"),
        ({"dropout": 1.0}, "dropout = 1.0: expected"),
        ({"targets": []}, r"targets = \[\]: expected at least one"),
        (
            {"targets": ["q proj"]},
            r"targets = \['q proj'\]: expected each to be all-linear or the name of a linear layer",
        ),
        ({"targets": ["all-linear", "q_proj"]}, "expected all-linear alone, or names without it"),
        ({"blocks": 1.5}, "blocks = 1.5: expected a whole number"),
    ],
)
def test_a_configuration_that_cannot_be(fields: dict[str, Any], words: str):
    with pytest.raises(OutOfRange, match=words):
        AdapterConfig(**fields)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (AdapterConfig(blocks=3), "tuning.adapter.blocks = 3: expected at most 2, as many as the model has"),
        (
            AdapterConfig(rank=2, targets=["q_proj", "c_fc"]),
            r"adapter.targets: expected all-linear, or some of c_attn, c_fc, c_proj, .* GPT-2 model; found 'q_proj'$",
        ),
        (AdapterConfig(rank=2, targets=["lm_head"]), "expected all-linear, or some of"),
        (AdapterConfig(rank=2, blocks=1, targets=["h.0.attn.c_attn"]), "expected some in the last 1 block"),
    ],
)
def test_what_the_model_has_not_is_one_message(make_gpt, config: AdapterConfig, words: str):
    model = make_gpt()
    before = state_hash(model)
    with pytest.raises(ParameterError, match=words):
        attach(model, config, 1, "tuning.adapter")
    assert state_hash(model) == before
    assert all(p.requires_grad for p in model.parameters())


def test_a_model_is_not_saved_before_its_adapter_is_merged(make_gpt, tmp_path: Path):
    model = make_gpt()
    adapter = attach(model, AdapterConfig(rank=2), seed=1)
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.qkv\.weight: expected in the model, but missing; merge"):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    adapter.merge()
    save_model(model, tmp_path / "model")

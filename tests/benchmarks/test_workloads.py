"""What the numbers are divided by: operations, parameters, equal data; and that cases and targets fit together."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import scaling
from benchmarks.candidates.ours import config_of
from benchmarks.cases import CASES, TARGETS
from benchmarks.random_data import prompt, training_batches
from benchmarks.run import PARTS
from benchmarks.workloads import WORKLOADS, shrunk, workload
from gptcore.model import GPT

ROOT = Path(__file__).resolve().parents[2]
PINS = re.compile(r"^([\w-]+)==([\w.]+)$", re.MULTILINE)


def test_operations_are_those_pytorch_counts() -> None:
    import transformers

    work = shrunk(WORKLOADS["train-30m"])
    shape = {"n_embd": work.d_model, "n_layer": work.n_layer, "n_head": work.n_head, "vocab_size": work.vocab_size}
    config = transformers.GPT2Config(**shape, n_positions=work.context_length, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    x, y = training_batches(work, 1)[0]
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(x).logits.flatten(0, 1), y.flatten()).backward()
    assert counter.get_total_flops() == work.flops_per_token * work.batch * work.tokens


def test_a_published_model_s_operations_are_its_matrices() -> None:
    work = WORKLOADS["tune-135m"]
    with torch.device("meta"):
        model = GPT(config_of(work))
    assert model.n_params() == 134_515_008  # SmolLM2-135M's
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert work.matrix_parameters == matrices


@pytest.mark.parametrize("name", ["train-30m", "first-token"])
def test_parameters_are_counted_right(name: str) -> None:
    with torch.device("meta"):
        assert GPT(config_of(WORKLOADS[name])).n_params() == WORKLOADS[name].parameters


def test_a_workload_survives_its_command_line() -> None:
    work = WORKLOADS["decode-16"]
    assert workload(work.as_json()) == work
    assert workload("decode-16") is work
    with pytest.raises(ValueError, match=r"decode-17.*expected one of train-30m"):
        workload("decode-17")


def test_everybody_gets_the_same_data() -> None:
    work = shrunk(WORKLOADS["train-30m"])
    torch.manual_seed(1)
    first = training_batches(work)
    torch.manual_seed(2)
    for (x, y), (x2, y2) in zip(first, training_batches(work), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
        assert torch.equal(x[:, 1:], y[:, :-1])
        assert x.shape == (work.batch, work.tokens)
    assert torch.equal(prompt(work), prompt(work))


def test_every_target_has_its_duels() -> None:
    for target in TARGETS:
        if target.part == "pretrain-stage":
            continue
        duels = CASES[target.part].duels
        assert {(target.ours, other) for other in target.against} <= set(duels), target.label


def test_every_case_is_a_part_with_a_workload_and_a_target() -> None:
    assert set(CASES) <= set(PARTS)
    assert set(CASES) <= set(WORKLOADS)
    assert {target.part for target in TARGETS} == {*CASES, "pretrain-stage"}
    assert {target.number for target in TARGETS} == set(range(1, 13))


def test_scaling_varies_one_thing_at_a_time() -> None:
    points = list(scaling.points())
    contexts = [p.work for p in points if p.axis == "context"]
    assert [w.tokens for w in contexts] == [256, 512, 1024, 2048]
    assert {w.batch * w.tokens for w in contexts} == {scaling.STEP_TOKENS}
    assert len({w.tokens for p in points if p.axis != "context" for w in [p.work]}) == 1
    sizes = [p.x for p in points if p.axis == "size"]
    assert sizes == sorted(set(sizes))


def test_peers_are_pinned_and_bring_no_pytorch() -> None:
    lines = (ROOT / "benchmarks" / "peers.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    pins = dict(PINS.findall("\n".join(wanted)))
    assert len(pins) == len(wanted)
    assert {"litgpt", "llms-from-scratch"} <= set(pins)
    locked = dict(PINS.findall((ROOT / "requirements.lock").read_text(encoding="utf-8")))
    assert not set(pins) & set(locked)
    assert "transformers" in locked

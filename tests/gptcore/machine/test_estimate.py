"""Estimates against PyTorch's own count of operations, against measured runs, and against each other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gptcore import runtime
from gptcore.config import PRESETS, GPTConfig
from gptcore.machine import estimate
from gptcore.machine.estimate import decoding, flops_per_token, parameters, training
from gptcore.machine.probe import Machine
from gptcore.model import GPT
from gptcore.optim import OptimConfig, build_optimizers

REFERENCE = Machine(
    processor="two cores with AVX-512 BF16",
    physical_cores=2,
    logical_cores=2,
    threads=2,
    instructions=("AVX2", "AVX-512", "AVX-512 BF16"),
    kernels="AVX512",
    bfloat16=True,
    memory=25_000_000_000,
    memory_available=24_000_000_000,
    float32_flops=240e9,
    bfloat16_flops=1000e9,
    bandwidth=56e9,
    keeps_buffers=True,
    gpus=(),
    machine_class="",
)
M30 = {"vocab_size": 50257, "d_model": 384, "n_layer": 6, "n_head": 6, "context_length": 256}
M124 = {"context_length": 512}
SMALL = {"vocab_size": 4096, "d_model": 256, "n_layer": 3, "n_head": 4, "context_length": 256}
WIDE = {"vocab_size": 4096, "d_model": 512, "n_layer": 8, "n_head": 8, "context_length": 256}
NARROW = {"d_model": 64, "n_layer": 2, "n_head": 2, "context_length": 64}
LLAMA = {**M30, "context_length": 1024, "positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu"}
FEW_WORDS = {"vocab_size": 600, "d_model": 128, "n_layer": 2, "n_head": 2, "context_length": 512}

MEASURED: list[tuple[dict[str, Any], int, str, str, float, float]] = [
    # configuration, batch size, optimizer, dtype: seconds of a step (median), MB at the peak
    (M30, 8, "adamw", "auto", 0.565, 1440),
    (M124, 4, "adamw", "auto", 2.242, 3572),
    (SMALL, 4, "muon", "auto", 0.0662, 492),
    (SMALL, 4, "adamw", "auto", 0.0447, 489),
    (NARROW, 8, "adamw", "auto", 0.0357, 490),
    ({**NARROW, "vocab_size": 4096}, 8, "adamw", "auto", 0.00616, 371),
    (WIDE, 16, "adamw", "auto", 1.073, 1757),
    (WIDE, 2, "muon", "auto", 0.511, 868),
    (M30, 4, "adamw", "float32", 0.955, 1416),
    (LLAMA, 2, "adamw", "auto", 0.661, 1557),
    (FEW_WORDS, 8, "adamw", "auto", 0.0493, 451),
]


@pytest.mark.parametrize("measured", MEASURED, ids=lambda m: f"{m[0].get('d_model', 768)}-{m[1]}-{m[2]}-{m[3]}")
def test_the_model_explains_what_was_measured_on_the_reference_machine(measured):
    shape, batch_size, optimizer, dtype, seconds, megabytes = measured
    cost = training(GPTConfig(**shape), REFERENCE, batch_size, 10, optimizer, dtype)
    assert cost.step_seconds == pytest.approx(seconds, rel=0.15)
    assert cost.memory / 1e6 == pytest.approx(megabytes, rel=0.13)


@pytest.mark.parametrize(
    "changes", [{}, {"mlp": "swiglu", "norm": "rmsnorm", "positions": "rotary"}, {"tie_weights": False, "bias": False}]
)
@pytest.mark.parametrize("length", [64, 128, 300])
def test_operations_are_those_that_pytorch_counts(changes: dict[str, Any], length: int):
    config = GPTConfig(vocab_size=101, context_length=length, d_model=48, n_layer=2, n_head=3, **changes)
    model = GPT(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(2, length, dtype=torch.long))
    assert counter.get_total_flops() == pytest.approx(2 * length * flops_per_token(config) / 3)  # a third is forward
    assert parameters(config) == model.n_params()


def test_muons_operations_are_those_that_pytorch_counts():
    config = GPTConfig(vocab_size=31, context_length=8, d_model=32, n_layer=2, n_head=2)
    model = GPT(config)
    optimizers = build_optimizers(model, OptimConfig(optimizer="muon"))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with FlopCounterMode(display=False) as counter:
        optimizers.step()
    assert counter.get_total_flops() == estimate._newton_schulz_flops(config)


def test_more_work_costs_more():
    config = GPTConfig(**SMALL)
    base = training(config, REFERENCE, 4, 100)
    for more in (
        training(replace(config, n_layer=6), REFERENCE, 4, 100),
        training(replace(config, d_model=512), REFERENCE, 4, 100),
        training(replace(config, vocab_size=8192), REFERENCE, 4, 100),
        training(config, REFERENCE, 8, 100),
        training(config, REFERENCE, 4, 100, dtype="float32"),
    ):
        assert more.step_seconds > base.step_seconds
        assert more.memory > base.memory
    assert training(config, REFERENCE, 4, 300).seconds == pytest.approx(3 * base.seconds)
    muon = training(config, REFERENCE, 4, 100, "muon")
    assert muon.step_seconds > base.step_seconds
    assert muon.memory < base.memory  # one moment instead of two
    fast = replace(REFERENCE, bfloat16_flops=2e12, bandwidth=112e9)
    assert training(config, fast, 4, 100).step_seconds < base.step_seconds


def test_longer_texts_cost_more_a_token_and_keep_no_weights_of_attention_beyond_a_size():
    def at(length: int) -> estimate.Training:
        return training(replace(GPTConfig(**M30), context_length=length), REFERENCE, 2048 // length)

    assert at(256).tokens_per_second > at(2048).tokens_per_second
    assert at(256).memory_parts["activations"] > at(1024).memory_parts["activations"]


def test_decoding_is_bound_by_the_bytes_of_the_weights():
    config = PRESETS["gpt2"]
    by_dtype = {dtype: decoding(config, REFERENCE, dtype) for dtype in ("float32", "bfloat16", "int8")}
    assert [d.weight_bytes for d in by_dtype.values()] == [4 * 123_532_032, 2 * 123_532_032, 123_532_032]
    measured = {"float32": (59.1, 1506), "bfloat16": (120.6, 1545), "int8": (170.1, 1978)}  # tokens/s, MB
    for dtype, (speed, megabytes) in measured.items():
        assert by_dtype[dtype].tokens_per_second == pytest.approx(speed, rel=0.15)
        assert by_dtype[dtype].memory / 1e6 == pytest.approx(megabytes, rel=0.2)
    assert decoding(PRESETS["gpt2-medium"], REFERENCE).tokens_per_second < by_dtype["float32"].tokens_per_second


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, "steps = 0"), ({"optimizer": "sgd"}, "adamw or muon"), ({"dtype": "int8"}, "float32 or bfloat16")],
)
def test_what_training_would_refuse_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        training(PRESETS["tiny"], REFERENCE, **options)
    with pytest.raises(ValueError, match="float32, bfloat16, int8"):
        decoding(PRESETS["tiny"], REFERENCE, "auto")


TRAINS = """
import json, sys, torch
from gptcore import runtime
from gptcore.config import GPTConfig
from gptcore.model import GPT
from gptcore.train import TrainConfig, train
runtime.configure()
config = GPTConfig(**json.loads(sys.argv[1]))
x = torch.zeros(4, config.context_length, dtype=torch.long)
list(train(GPT(config), [(x, x)] * 3, TrainConfig(max_steps=3)))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc")
def test_memory_is_that_of_a_real_process(run_python, tmp_path: Path):
    """The whole peak, and what a larger model adds to it."""
    here = replace(REFERENCE, bfloat16=runtime.has_fast_bfloat16())
    shapes = [{**SMALL, "n_layer": 1, "context_length": 64}, {**SMALL, "vocab_size": 20_000, "context_length": 128}]
    found, expected = [], []
    for shape in shapes:
        done = run_python("-c", TRAINS, json.dumps(shape), cwd=tmp_path)
        found.append(int(done.stdout) * 1024)
        expected.append(training(GPTConfig(**shape), here, 4).memory)
    assert 0.5 < expected[0] / found[0] < 2
    assert 0.5 < expected[1] / found[1] < 2
    assert 0.4 < (expected[1] - expected[0]) / (found[1] - found[0]) < 2.5

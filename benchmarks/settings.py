"""What two process-wide settings are worth that `gptcore` sets by itself, measured in turn in one run.

    python -m benchmarks.settings > settings.json

How threads wait (`gptcore/__init__.py`): milliseconds of a training step of the default model, alone and beside one
busy process, with what importing gptcore sets and with PyTorch's own, which is had by importing PyTorch first.
What the allocator keeps (``runtime.keep_large_buffers``): tokens/s of a 30M model for somebody who calls ``train`` and
nothing else, with and without what ``train`` does about it.

Each measurement is a process of its own; rounds interleave them, and the ratio is taken round by round.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

ROUNDS = 3
STEPS = {"default": 25, "30M": 8}
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

STEP = """
import sys, time
model_name, policy, keeps, steps = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
if policy == "pytorch":
    import torch
import gptcore.train
from gptcore import POLICY_IN_FORCE
from gptcore.config import GPTConfig
from gptcore.model import GPT
import torch
assert POLICY_IN_FORCE == (policy == "gptcore")
if keeps == "no":
    gptcore.train.keep_large_buffers = lambda: False
shapes = {
    "default": (GPTConfig(vocab_size=4096, context_length=256, d_model=256, n_layer=3, n_head=4), 4, "muon"),
    "30M": (GPTConfig(vocab_size=50257, context_length=256, d_model=384, n_layer=6, n_head=6), 8, "adamw"),
}
config, rows, optimizer = shapes[model_name]
torch.manual_seed(0)
ids = torch.randint(config.vocab_size, (rows, config.context_length + 1))
batches = [(ids[:, :-1], ids[:, 1:])] * steps
setting = gptcore.train.TrainConfig(max_steps=steps, optimizer=optimizer)
seconds = sorted(step.seconds for step in gptcore.train.train(GPT(config), batches, setting))
print(seconds[len(seconds) // 2], rows * config.context_length)
"""
BUSY = "x = 0\nwhile True:\n    x += 1"
PEAK = """
from gptcore.machine.probe import probe
found = probe(seconds=1.0)
print(found.float32_flops, found.bfloat16_flops)
"""


def step(model: str, policy: str, keeps: str = "yes") -> tuple[float, int]:
    """Median seconds of a step, and its tokens."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = [sys.executable, "-c", STEP, model, policy, keeps, str(STEPS[model])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, tokens = done.stdout.split()
    return float(seconds), int(tokens)


@contextmanager
def neighbour() -> Iterator[None]:
    """One busy process on this machine."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    alone: dict[str, list[float]] = {"gptcore": [], "pytorch": []}
    beside: dict[str, list[float]] = {"gptcore": [], "pytorch": []}
    speed: dict[str, list[float]] = {"yes": [], "no": []}
    for _ in range(ROUNDS):
        for policy in alone:
            alone[policy].append(step("default", policy)[0])
        with neighbour():
            for policy in beside:
                beside[policy].append(step("default", policy)[0])
        for keeps in speed:
            seconds, tokens = step("30M", "gptcore", keeps)
            speed[keeps].append(tokens / seconds)
    peak = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout.split()
    document = {
        "peak_gflops": {"float32": float(peak[0]) / 1e9, "bfloat16": float(peak[1]) / 1e9},
        "step_ms_alone": {name: [round(1e3 * s, 1) for s in values] for name, values in alone.items()},
        "step_ms_beside_a_busy_process": {name: [round(1e3 * s, 1) for s in values] for name, values in beside.items()},
        "tokens_per_second_30M": {
            f"keeps_buffers_{name}": [round(v) for v in values] for name, values in speed.items()
        },
        "ratios": {
            "alone": ratio(alone["gptcore"], alone["pytorch"]),
            "beside": ratio(beside["gptcore"], beside["pytorch"]),
            "keeps_buffers": ratio(speed["yes"], speed["no"]),
        },
    }
    print(json.dumps(document, indent=1))


def ratio(ours: list[float], others: list[float]) -> dict[str, float]:
    """Round by round: least, median, largest."""
    found = sorted(a / b for a, b in zip(ours, others, strict=True))
    return {"min": round(found[0], 3), "median": round(median(found), 3), "max": round(found[-1], 3)}


if __name__ == "__main__":
    main()

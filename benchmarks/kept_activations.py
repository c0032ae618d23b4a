"""What keeping activations saves when the last blocks are tuned: seconds of an epoch with and without.

    python -m benchmarks.kept_activations

Two trainings of one model on the same texts, in one process: one computes the frozen blocks in every step, the other
reads what they gave.  They do an epoch in turns, the order changing, and each round gives one ratio.  Beside it stands
what computing and keeping took, in epochs of the training without, and the largest difference between their losses.
Texts are random ids, as long as labelled documents are that are cut at 128 tokens.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.workloads import DEFAULT, GPT2
from gptcore import runtime
from gptcore.adapters.config import AdapterConfig
from gptcore.adapters.kept import Kept, kept
from gptcore.adapters.lora import attach
from gptcore.config import GPTConfig
from gptcore.model import GPT, Classifier
from gptcore.objectives.classification import Classification
from gptcore.train import TrainConfig, train

ROUNDS, BATCH, LABELS = 3, 16, [str(n) for n in range(8)]
CASES: dict[str, tuple[dict[str, Any], int, int, str]] = {
    "default model, last block, AdamW": (DEFAULT, 1, 20, "adamw"),
    "default model, last block, Muon": (DEFAULT, 1, 20, "muon"),
    "GPT-2 (124M), last two blocks, AdamW": (GPT2, 2, 2, "adamw"),
}
"""Name → shape, trained blocks, batches of an epoch, optimizer."""


def training(
    shape: dict[str, Any], blocks: int, batches: int, optimizer: str, keep: Path | None
) -> tuple[Iterator[float], float, int]:
    """The losses of its steps, endlessly; seconds that keeping took and bytes on disk."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    lengths = torch.randint(20, 129, (BATCH * batches,), generator=generator).tolist()
    rows = [torch.randint(shape["vocab_size"] - 1, (n,), generator=generator).tolist() for n in lengths]
    model = Classifier(GPT(GPTConfig(**shape)), LABELS, pad_id=shape["vocab_size"] - 1)
    config, dtype = AdapterConfig(blocks=blocks, keep_activations=keep is not None), "float32"
    attach(model, config, seed=0)
    plain = Classification(rows, [n % len(LABELS) for n in range(len(rows))], BATCH, model.pad_id, seed=0)
    objective = kept(plain, rows, model, config, dtype, model.pad_id, "adapter")
    began, size = time.perf_counter(), 0
    if isinstance(objective, Kept) and keep is not None:
        size = list(objective.prepare(keep, batches + 1))[-1].size
    seconds = time.perf_counter() - began
    setting = TrainConfig(max_steps=10**6, optimizer=optimizer, schedule="constant", learning_rate=1e-4, dtype=dtype)
    steps = train(model, objective.batches(0), setting, loss=objective.loss)
    return (step.loss for step in steps), seconds, size


def measure(shape: dict[str, Any], blocks: int, batches: int, optimizer: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="gptcore-kept-") as folder:
        computed, _, _ = training(shape, blocks, batches, optimizer, None)
        read, preparing, size = training(shape, blocks, batches, optimizer, Path(folder))
        seconds: dict[str, list[float]] = {"computed": [], "kept": []}
        apart = 0.0
        for number in range(ROUNDS + 1):
            losses = {}
            for name in sorted(seconds, reverse=number % 2 == 1):
                began = time.perf_counter()
                losses[name] = [next(computed if name == "computed" else read) for _ in range(batches)]
                seconds[name].append(time.perf_counter() - began)
            pairs = zip(losses["computed"], losses["kept"], strict=True)
            apart = max(apart, *(abs(a - b) / a for a, b in pairs))
    epochs = {name: values[1:] for name, values in seconds.items()}  # the first warms both up
    ratios = sorted(a / b for a, b in zip(epochs["computed"], epochs["kept"], strict=True))
    return {
        "epoch_seconds": {name: [round(s, 2) for s in values] for name, values in epochs.items()},
        "times_as_fast": {"min": round(ratios[0], 2), "median": round(median(ratios), 2), "max": round(ratios[-1], 2)},
        "keeping_in_epochs": round(preparing / median(epochs["computed"]), 2),
        "kept_bytes": size,
        "losses_apart": apart,
    }


def main() -> None:
    runtime.configure()
    for name, case in CASES.items():
        print(json.dumps({name: measure(*case)}, indent=1), flush=True)


if __name__ == "__main__":
    main()

"""Windows → a GPT trained from scratch.

Reads ``data/windows`` and ``data/tokenizer``; writes ``data/checkpoints/pretrain`` in Hugging Face GPT-2
layout (of an architecture that is not GPT-2's: in gptcore's own) with the tokenizer beside the weights, and
the loss curve.  The same windows, parameters, versions
and machine class give the same bytes, however often the run was killed on the way.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gptcore import runtime
from gptcore.artifact import commit, open_verified
from gptcore.config import GPTConfig
from gptcore.data import Batch, ShuffledBatches, WindowDataset
from gptcore.errors import DataError
from gptcore.evaluate import stream_loss
from gptcore.gpt2 import save_gpt2
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from gptcore.train import TrainConfig, language_loss
from pipeline import training
from pipeline.artifacts import CHECKPOINT, WINDOWS, as_plain, open_stream
from pipeline.tracking import Tracker


@dataclass(frozen=True)
class ModelConfig:
    """The model's shape and architecture; vocabulary and context come from the windows."""

    d_model: int
    """Width of the residual stream; a multiple of n_head."""
    n_layer: int
    """Transformer blocks."""
    n_head: int
    """Attention heads per block."""
    dropout: float
    """Probability of zeroing an activation in training."""
    bias: bool = True
    """Whether linear layers and LayerNorms have a bias."""
    positions: str = "learned"
    """``learned``, or ``rotary`` for relative positions."""
    rope_theta: float = 10000.0
    """Base of the rotary wavelengths; used with ``positions: rotary`` only."""
    norm: str = "layernorm"
    """``layernorm`` or ``rmsnorm``."""
    mlp: str = "gelu"
    """``gelu`` or ``swiglu``."""
    tie_weights: bool = True
    """Whether the head shares the token embedding's matrix."""

    def __post_init__(self) -> None:
        self.for_data(257, 1)  # raises ValueError for impossible shapes

    def for_data(self, vocab_size: int, context_length: int) -> GPTConfig:
        return GPTConfig(vocab_size=vocab_size, context_length=context_length, **self.__dict__)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """`gptcore.train.TrainConfig` and what the stage adds."""

    batch_windows: int
    """Windows per batch."""
    eval_every: int
    """Steps between evaluations on the validation split."""
    eval_windows: int
    """Validation windows per evaluation."""
    save_every: int
    """Steps between saved training states."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value}: expected a whole number of at least 1"
            for name in ("batch_windows", "eval_every", "eval_windows", "save_every")
            if (value := getattr(self, name)) < 1
        ]
        if problems:
            raise ValueError("; ".join(problems))
        super().__post_init__()


def pretrain(
    windows: Path, tokenizer: Path, out: Path, curve: Path, model: ModelConfig, cfg: PretrainConfig, tracker: Tracker
) -> dict[str, Any]:
    runtime.configure()
    facts = open_verified(windows, WINDOWS)
    vocabulary = open_verified(tokenizer, "tokenizer")
    encoder = _matching_tokenizer(tokenizer, facts.config["tokenizer"])
    context, stride = facts.config["context_length"], facts.config["stride"]
    dataset = WindowDataset(open_stream(windows, "train"), context, stride)
    held_out = _validation_batches(windows, context, cfg)

    torch.manual_seed(cfg.seed)
    gpt = GPT(model.for_data(encoder.n_vocab, context))
    inputs = {"windows": facts.content_hash, "tokenizer": vocabulary.content_hash}
    config = {"model": as_plain(model), "pretrain": as_plain(cfg)}
    batch_tokens = cfg.batch_windows * context * cfg.accumulation_steps
    batches = ShuffledBatches(dataset, cfg.batch_windows, cfg.seed)
    trained = training.run(
        "pretrain",
        gpt,
        lambda step: batches.starting_at(step * cfg.accumulation_steps),
        cfg,
        training.Cadence(cfg.eval_every, cfg.save_every),
        loss=language_loss,
        evaluate=lambda: {"val_loss": stream_loss(gpt, held_out, cfg.dtype)},
        identity={"config": config, "inputs": inputs},
        tracker=tracker,
        tokens_per_step=batch_tokens,
    )
    training.write_curve(curve, trained.curve)
    metrics = {
        "train_loss": round(trained.mean_loss(), 6),
        "val_loss": round(trained.last("val_loss"), 6),
        "steps": cfg.max_steps,
        "tokens_seen": cfg.max_steps * batch_tokens,
        "parameters": gpt.n_params(),
    }
    card = {"stage": "pretrain", **config, "sources": facts.config["sources"], "metrics": metrics}
    with commit(out, kind=CHECKPOINT, config=card, inputs=inputs) as draft:
        save_gpt2(gpt, draft, encoder)
    return {**metrics, "machine_class": runtime.machine_class()}  # in git, not in the hashed out


def _matching_tokenizer(directory: Path, fingerprint: str) -> Tokenizer:
    encoder = Tokenizer.load(directory)
    if encoder.fingerprint != fingerprint:
        raise DataError(
            f"{directory}: the windows were made with another tokenizer ({fingerprint[:12]}…) than this one "
            f"({encoder.fingerprint[:12]}…); run `dvc repro windows`"
        )
    return encoder


def _validation_batches(windows: Path, context: int, cfg: PretrainConfig) -> list[Batch]:
    """The first windows of the validation split, without overlap; short text gives one shorter window."""
    stream = open_stream(windows, "val")
    dataset = WindowDataset(stream, min(context, len(stream) - 1), context)
    wanted = np.arange(min(cfg.eval_windows, len(dataset)))
    return [dataset.batch(wanted[i : i + 16]) for i in range(0, len(wanted), 16)]

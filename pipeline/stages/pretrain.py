"""Windows → a GPT trained from scratch.

Reads ``data/windows`` and ``data/tokenizer``; writes ``data/checkpoints/pretrain`` in Hugging Face GPT-2
layout (of an architecture that is not GPT-2's: in gptcore's own) with the tokenizer beside the weights, and
the loss curve.  The same windows, parameters, versions
and machine class give the same bytes, however often the run was killed on the way.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gptcore import runtime
from gptcore.config import Architecture
from gptcore.data import Batch, ShuffledBatches, WindowDataset
from gptcore.errors import DataError, ParameterError
from gptcore.evaluate import stream_loss
from gptcore.formats.directory import save_model
from gptcore.machine.identity import machine_class
from gptcore.model import GPT
from gptcore.objectives import OBJECTIVES, Objective
from gptcore.tokenizer import Tokenizer
from pipeline.contract.stage import In, Out
from pipeline.settings.pretrain import PretrainConfig
from pipeline.store.checkpoint import LANGUAGE_MODEL, Checkpoint
from pipeline.store.plain import as_plain
from pipeline.store.view import Headline, Outcome, View
from pipeline.store.vocabulary import Vocabulary
from pipeline.store.windows import Windows
from pipeline.tracking.tracker import Tracker
from pipeline.training import run as training
from pipeline.training.curve import shown, write_curve

NAME = __name__.rpartition(".")[2]


def pretrain(
    windows: In, tokenizer: In, out: Out, curve: Out, model: Architecture, cfg: PretrainConfig, tracker: Tracker
) -> Outcome:
    runtime.configure()
    text, vocabulary = Windows.open(windows), Vocabulary.open(tokenizer)
    encoder = _matching_tokenizer(vocabulary, text.tokenizer)
    held_out = _validation_batches(text, cfg)

    torch.manual_seed(cfg.seed)
    gpt = GPT(model.for_data(encoder.n_vocab, text.context_length))
    inputs = {"windows": text.content_hash, "tokenizer": vocabulary.content_hash}
    config = {"model": as_plain(model), NAME: as_plain(cfg)}
    batch_tokens = cfg.batch_windows * text.context_length * cfg.accumulation_steps
    trained = training.run(
        __name__,
        gpt,
        _objective(text, cfg),
        cfg,
        training.Cadence(cfg.eval_every, cfg.save_every),
        evaluate=lambda: {"val_loss": stream_loss(gpt, held_out, cfg.dtype)},
        identity={"config": config, "inputs": inputs},
        tracker=tracker,
        tokens_per_step=batch_tokens,
        name_of=partial(_window_name, text),
    )
    write_curve(curve, trained.curve)
    metrics = {
        "train_loss": round(trained.mean_loss(), 6),
        "val_loss": round(trained.last("val_loss"), 6),
        "steps": cfg.max_steps,
        "tokens_seen": cfg.max_steps * batch_tokens,
        "parameters": gpt.n_params(),
    }
    card = {"stage": NAME, "about": as_plain(LANGUAGE_MODEL), **config, "sources": text.sources, "metrics": metrics}
    with Checkpoint.create(out, card, inputs) as draft:
        save_model(gpt, draft, encoder)
    facts = {**metrics, "machine_class": machine_class()}  # in git, not in the hashed out
    return Outcome(facts, _view(metrics, curve), [curve])


def _window_name(text: Windows, number: int) -> str:
    """A window of the training text by its number, with the documents that it shows."""
    start = number * text.stride
    documents = text.documents_in("train", start, start + text.context_length + 1)
    return f"window {number} ({', '.join(documents)})"


def _objective(text: Windows, cfg: PretrainConfig) -> Objective:
    """What is learned from the training windows, in their shuffled order."""
    kind = OBJECTIVES[cfg.objective]
    if not hasattr(kind, "from_windows"):
        raise ParameterError(f"{NAME}.objective = {cfg.objective!r}: does not learn from windows of text")
    dataset = WindowDataset(text.stream("train"), text.context_length, text.stride)
    objective: Objective = kind.from_windows(ShuffledBatches(dataset, cfg.batch_windows, cfg.seed))
    return objective


def _matching_tokenizer(vocabulary: Vocabulary, fingerprint: str) -> Tokenizer:
    encoder = vocabulary.tokenizer
    if encoder.fingerprint != fingerprint:
        raise DataError(
            f"{vocabulary.path}: the windows were made with another tokenizer ({fingerprint[:12]}…) than this one "
            f"({encoder.fingerprint[:12]}…); run `dvc repro windows`"
        )
    return encoder


def _validation_batches(text: Windows, cfg: PretrainConfig) -> list[Batch]:
    """The first windows of the validation split, without overlap; short text gives one shorter window."""
    stream = text.stream("val")
    dataset = WindowDataset(stream, min(text.context_length, len(stream) - 1), text.context_length)
    wanted = np.arange(min(cfg.eval_windows, len(dataset)))
    return [dataset.batch(wanted[i : i + 16]) for i in range(0, len(wanted), 16)]


def _view(metrics: dict[str, Any], curve: Path) -> View:
    size = Headline(
        "model",
        metrics["parameters"],
        "parameters",
        f"validation loss {metrics['val_loss']:.3f} nats/token",
        f"Trained from scratch in {metrics['steps']:,} steps on {metrics['tokens_seen']:,} tokens, "
        "repetitions included.",
    )
    return View("Pretraining", [size], shown(curve, {"val_loss": "nats/token"}, "nats/token"))

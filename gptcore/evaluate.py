"""How good is a model?  Nats per token, perplexity, bits per byte; accuracy and F1 for classifiers.

bits/byte = nats ÷ ln 2 ÷ bytes of the text.  Unlike the loss per token it does not depend on the
tokenizer, so models with different vocabularies, n-gram models and compressors can be put side by side on
the same text.

Each document is scored alone: end-of-text gives the first token its context and is not itself scored.
Windows overlap, so that (but for the document's start) every token is predicted from at least ``context -
stride`` tokens before it.  Evaluation draws no random numbers and leaves the model's mode as it found it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from gptcore.data import by_length, pad
from gptcore.kernels.cross_entropy import CHUNK_LOGITS, IGNORE, token_nats
from gptcore.model import GPT, Classifier
from gptcore.runtime import autocast


def document_nats(
    model: GPT,
    documents: Sequence[np.ndarray],
    eot: int,
    *,
    context: int | None = None,
    stride: int | None = None,
    batch_windows: int = 16,
    dtype: str = "float32",
) -> float:
    """Sum of -ln p over all tokens of ``documents`` (arrays of ids, without end-of-text).

    A window has ``context`` tokens, all that the model can see if it is None; ``stride`` None is half of them.
    """
    context = context or model.config.context_length
    stride = max(1, context // 2) if stride is None else stride
    if not context <= model.config.context_length:
        raise ValueError(f"context = {context}: expected at most {model.config.context_length}, the model's")
    if not 1 <= stride <= context:
        raise ValueError(f"stride = {stride}: expected 1 … {context}, the context; beyond it tokens would be left out")
    windows = [w for ids in documents for w in _windows(ids, eot, context, stride)]
    total = 0.0
    with evaluating(model):
        for chosen in by_length([x for x, _ in windows], batch_windows):
            x, y = pad([windows[i][0] for i in chosen], eot), pad([windows[i][1] for i in chosen], IGNORE)
            total += _nats(model, x, y, dtype)
    return total


def stream_loss(model: GPT, batches: Sequence[tuple[Tensor, Tensor]], dtype: str = "auto") -> float:
    """Mean nats/token over x, y (B, T) batches: the quick estimate during training."""
    nats, count = 0.0, 0
    with evaluating(model):
        for x, y in batches:
            nats += _nats(model, x, y, dtype)
            count += int((y != IGNORE).sum())
    return nats / max(1, count)


def labels_of(
    model: Classifier,
    rows: Sequence[Sequence[int]],
    *,
    batch_rows: int = 64,
    dtype: str = "auto",
    watch: Callable[[int], object] = lambda done: None,
) -> tuple[list[str], list[float]]:
    """The likeliest label of each of ``rows`` of ids and its probability, in the order of the rows.

    ``watch`` is told after each batch how many rows that were.
    """
    labels, confidence = [""] * len(rows), [0.0] * len(rows)
    with evaluating(model), autocast(dtype):
        for chosen in by_length(rows, batch_rows):
            best = model(pad([rows[i] for i in chosen], model.pad_id)).float().softmax(dim=-1).max(dim=-1)
            for i, p, label in zip(chosen, best.values.tolist(), best.indices.tolist(), strict=True):
                labels[i], confidence[i] = model.labels[label], p
            watch(len(chosen))
    return labels, confidence


def perplexity(nats: float, tokens: int) -> float:
    return math.exp(nats / tokens)


def bits_per_byte(nats: float, n_bytes: int) -> float:
    return nats / math.log(2) / n_bytes


def accuracy(predicted: Sequence[str], actual: Sequence[str]) -> float:
    return sum(p == a for p, a in zip(predicted, actual, strict=True)) / len(actual)


def macro_f1(predicted: Sequence[str], actual: Sequence[str], labels: Sequence[str]) -> float:
    """Mean over ``labels`` of F1 = 2·TP / (2·TP + FP + FN); 0 for a label that never occurs nor is predicted."""
    pairs = list(zip(predicted, actual, strict=True))
    scores = []
    for label in labels:
        hits = sum(p == a == label for p, a in pairs)
        errors = sum((p == label) != (a == label) for p, a in pairs)
        scores.append(2 * hits / (2 * hits + errors) if hits else 0.0)
    return sum(scores) / len(scores)


def _nats(model: GPT, x: Tensor, y: Tensor, dtype: str) -> float:
    """Nats of the targets that count; logits exist for those only, and for a part of them at a time."""
    total = 0.0
    with autocast(dtype, x.device.type):
        counted = y != IGNORE
        hidden, targets = model.hidden(x)[counted], y[counted]  # (n, C), (n)
        rows = max(1, CHUNK_LOGITS // model.config.vocab_size)
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            total += token_nats(model.head(hidden[part]), targets[part]).double().sum().item()
    return total


def _windows(ids: np.ndarray, eot: int, context: int, stride: int) -> Iterator[tuple[list[int], list[int]]]:
    """Inputs and targets; each token is a target that counts in exactly one window."""
    tokens = [eot, *ids.tolist()]
    done = 1  # tokens[:done] are scored (or end-of-text)
    start = 0
    while done < len(tokens):
        end = min(start + context + 1, len(tokens))
        piece = tokens[start:end]
        skipped = done - start - 1
        yield piece[:-1], [IGNORE] * skipped + piece[1 + skipped :]
        done, start = end, start + stride


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout and gradients; its mode comes back."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)

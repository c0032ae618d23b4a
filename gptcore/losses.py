"""Training losses: next-token cross-entropy that never holds all logits, and its masked form.

For a vocabulary of 50,257 the logits of 2,048 tokens take 412 MB in fp32, their softmax and their gradient
as much again.  ``next_token_loss`` works through the tokens in chunks and computes the gradient with
respect to the hidden states and the head in the same pass, so that only one chunk of logits exists at any
time and none is computed twice.  Rejected: ``torch.utils.checkpoint`` round each chunk, which is as small
but runs the head's product a second time.

Axes: N tokens of the batch (B·T), C channels, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100
"""Target id of tokens that carry no loss: prompts and padding (PyTorch's ``ignore_index``)."""
CHUNK_LOGITS = 8_000_000
"""Most logits in memory at once: 32 MB in fp32, about the last-level cache of a server CPU."""


def next_token_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats/token over the targets that are not ``IGNORE``.

    hidden (B, T, C), head's matrix (V, C), targets (B, T) → scalar in fp32.  Without any counted target
    the loss is 0, and so is its gradient.
    """
    return _ChunkedCrossEntropy.apply(hidden.reshape(-1, hidden.shape[-1]), weight, targets.reshape(-1))  # type: ignore[no-any-return]


def token_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats of each target: logits (B, T, V), targets (B, T) → (B, T); 0 where the target is ``IGNORE``."""
    flat = F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), targets.reshape(-1), reduction="none")
    return flat.view(targets.shape)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forward also computes both gradients of the mean; backward scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        dtype = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else None
        with torch.autocast(hidden.device.type, enabled=False):
            h, w = (hidden.to(dtype), weight.to(dtype)) if dtype else (hidden, weight)
            counted = (targets != IGNORE).sum().clamp(min=1)
            needs_grad = hidden.requires_grad or weight.requires_grad
            grad_h = torch.empty_like(h) if needs_grad else None
            grad_w = torch.zeros_like(weight) if needs_grad else None
            loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
            rows = max(1, CHUNK_LOGITS // weight.shape[0])
            for start in range(0, len(targets), rows):
                chunk = slice(start, start + rows)
                logits = (h[chunk] @ w.T).float()  # (n, V)
                loss += F.cross_entropy(logits, targets[chunk], reduction="sum")
                if grad_h is not None and grad_w is not None:
                    d_logits = _softmax_minus_onehot(logits, targets[chunk]).div_(counted).to(h.dtype)  # (n, V)
                    grad_h[chunk] = d_logits @ w
                    grad_w += d_logits.T @ h[chunk]
        if grad_h is not None and grad_w is not None:
            ctx.save_for_backward(grad_h.to(hidden.dtype), grad_w)
        return loss / counted

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        grad_h, grad_w = ctx.saved_tensors
        return grad_h * grads[0].to(grad_h.dtype), grad_w * grads[0], None


def _softmax_minus_onehot(logits: Tensor, targets: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy with respect to the logits, in their memory."""
    probs = torch.softmax(logits, dim=-1)
    counted = targets != IGNORE
    probs.mul_(counted[:, None])
    index = targets.clamp(min=0)[:, None]
    return probs.scatter_add_(1, index, -counted[:, None].to(probs.dtype))

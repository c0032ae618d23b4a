"""Causal multi-head self-attention, with a cache for generating one token at a time.

Axes, in the whole library: B batch, T tokens of this call, S tokens seen so far (S ≥ T), C channels
(d_model), H heads, D channels per head, V vocabulary.

``scaled_dot_product_attention`` runs a fused kernel: the scores are never written out and memory grows
with T, not with T².  The exception is training on short texts in bfloat16 on a CPU, where PyTorch's fused
kernel is slower than three plain calls (14.8 against 7.2 ms forward and backward for 4 × 4 heads of 256
tokens on one core).  The cache is allocated once for the whole context and written in place; appending
with ``torch.cat`` would copy all earlier keys at every token.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.config import GPTConfig

SHORT = 512
"""Longest text for which training on a CPU in bfloat16 writes the scores out."""


class KVCache:
    """Keys and values of every block for the tokens seen so far.

    ``length`` counts the filled positions; the model advances it once per forward pass.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        max_length: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.max_length = max_length or config.context_length
        shape = (config.n_layer, batch_size, config.n_head, self.max_length, config.head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)  # (L, B, H, S, D)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, H, T, D) keys and values of one block; return all (B, H, S, D) so far."""
        end = self.length + k.shape[2]
        if end > self.max_length:
            raise ValueError(f"the cache holds {self.max_length} tokens; {end} were asked for")
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class CausalSelfAttention(nn.Module):
    """Each token attends to itself and to the tokens before it (Vaswani et al., 2017, §3.2)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)
        self.proj = nn.Linear(config.d_model, config.d_model, bias=config.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        """x (B, T, C) → (B, T, C).

        ``mask`` (B, 1, T, S), True where attention is allowed, replaces the causal rule (padded batches).
        """
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        if cache is not None:
            k, v = cache.append(layer, k.to(cache.keys.dtype), v.to(cache.values.dtype))  # (B, H, S, D) each
            q = q.to(k.dtype)
            if mask is None and 1 < T < k.shape[2]:
                mask = causal_mask(T, k.shape[2], x.device)
        y = attend(q, k, v, mask, self.dropout if self.training else 0.0)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C).to(x.dtype)
        return F.dropout(self.proj(y), self.dropout, self.training)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention of (B, H, T, D) queries over (B, H, S, D) keys; causal without a mask."""
    T = q.shape[2]
    if mask is None and T <= SHORT and q.requires_grad and q.device.type == "cpu" and q.dtype == torch.bfloat16:
        return _attend_short(q, k, v, dropout)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None and T > 1)


def _attend_short(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """The same with the scores written out, in three calls that run at the speed of the matrix products."""
    shape, (T, D) = q.shape, q.shape[2:]
    future = torch.full((T, T), -torch.inf, dtype=q.dtype).triu(1)
    q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)  # (B·H, T, D) each
    scores = torch.baddbmm(future.expand(len(q), T, T), q, k.transpose(1, 2), alpha=D**-0.5)  # (B·H, T, T)
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return (weights @ v).view(shape)


def causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """(1, 1, T, S): the T newest of S tokens; True where the key is not after the query."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)[None, None]

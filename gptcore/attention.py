"""Causal multi-head self-attention, with a cache for generating one token at a time.

Axes, in the whole library: B batch, T tokens of this call, S tokens seen so far (S ≥ T), C channels
(d_model), H heads, D channels per head, V vocabulary.

The scores are never written out: ``scaled_dot_product_attention`` runs a fused kernel, so memory grows
with T and not with T².  The cache is allocated once for the whole context and written in place;
appending with ``torch.cat`` would copy all earlier keys at every token.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.config import GPTConfig


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

    def forward(
        self, x: Tensor, mask: Tensor | None = None, cache: KVCache | None = None, layer: int = 0
    ) -> Tensor:
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
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask is None and T > 1,
            scale=1.0 / math.sqrt(C // self.n_head),
        )  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C).to(x.dtype)
        return F.dropout(self.proj(y), self.dropout, self.training)


def causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """(1, 1, T, S): the T newest of S tokens; True where the key is not after the query."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)[None, None]

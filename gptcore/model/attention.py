"""Causal multi-head self-attention, with a cache for generating one token at a time.

Axes, in the whole library: B batch, T tokens of this call, S tokens seen so far (S ≥ T), C channels
(d_model), H heads, D channels per head, V vocabulary.

On a CPU, training and prompts run `kernels/causal_attention.py`; everything else (a GPU, masks, single tokens)
``scaled_dot_product_attention``, whose kernel fits there.

The cache is allocated once for the whole text and written in place; appending with ``torch.cat`` would copy
all earlier keys at every token.  On a CPU it is float32 even where the model is bfloat16: a query of
its own over 128 tokens takes 26 µs a layer instead of 49 (GPT-2, batch 1), 0.53 ms instead of 0.60 (batch 16).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.config import GPTConfig
from gptcore.kernels.causal_attention import causal_attention
from gptcore.model.positions import rotate


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
        keys, values = self.keys[layer], self.values[layer]  # (B, H, S, D)
        keys.narrow(2, self.length, k.shape[2]).copy_(k)
        values.narrow(2, self.length, k.shape[2]).copy_(v)
        return keys.narrow(2, 0, end), values.narrow(2, 0, end)


class CausalSelfAttention(nn.Module):
    """Each token attends to itself and to the tokens before it (Vaswani et al., 2017, §3.2)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)
        self.proj = nn.Linear(config.d_model, config.d_model, bias=config.bias)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
        turns: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, C) → (B, T, C).

        ``mask`` (B, 1, T, S), True where attention is allowed, replaces the causal rule (padded batches).
        ``turns``, what ``positions.rotation`` gives for the T positions, turns queries and keys; the cache keeps
        the turned keys.
        """
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)  # (3, B, H, T, D)
        if turns is None:
            q, k, v = qkv
        else:
            qk, (v,) = qkv.split((2, 1))
            q, k = rotate(qk, turns)
        if cache is not None:
            all_k, all_v = cache.append(layer, k, v)  # (B, H, S, D) each
            if cache.length:  # else there is nothing but this call's own keys and values
                q, k, v = q.to(all_k.dtype), all_k, all_v
            if mask is None and 1 < T < k.shape[2]:
                mask = causal_mask(T, k.shape[2], x.device)
        y = attend(q, k, v, mask, self.dropout if self.training else 0.0)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C).to(x.dtype)
        return F.dropout(self.proj(y), self.dropout, self.training)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention of (B, H, T, D) queries over (B, H, S, D) keys; causal without a mask."""
    if mask is None and 1 < q.shape[2] == k.shape[2] and q.device.type == "cpu":
        return causal_attention(q, k, v, dropout)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None and q.shape[2] > 1)


def causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """(1, 1, T, S): the T newest of S tokens; True where the key is not after the query."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)[None, None]

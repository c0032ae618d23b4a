"""The GPT: embeddings, pre-norm transformer blocks, a head that may share the embedding's matrix.

By default exact to GPT-2: GELU in its tanh form, LayerNorm before each branch and once at the end,
absolute position embeddings, initialisation with 0.02 and residual projections scaled by 1/√(2·n_layer)
(Radford et al., 2019).  Every option of `config.py` is one branch in one of the parts; together they compute what
Llama, Qwen2, Qwen3 and GPT-NeoX compute.

Axes: B batch, T tokens, C channels (d_model), V vocabulary (see `attention.py`).

``forward`` gives logits for every token, which for a large vocabulary is by far the largest tensor of a
training step.  Training therefore calls ``hidden`` and hands the head's matrix to `kernels/cross_entropy.py`, which
holds the logits of a group of tokens at a time, once.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.config import GPTConfig
from gptcore.model.attention import KVCache
from gptcore.model.block import Block
from gptcore.model.norm import norm
from gptcore.model.positions import rotation


class GPT(nn.Module):
    """``GPT(config)(ids)``: token ids (B, T) → logits (B, T, V)."""

    labels: Sequence[str] = ()
    """Of a classifier; a language model has none."""
    step: Callable[[int, KVCache], Tensor] | None = None
    """A faster way to the logits (1, V) after one more token of one text; a copy for inference may have one."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        learned = config.positions == "learned"
        self.position_embedding = nn.Embedding(config.context_length, config.d_model) if learned else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.frozen_blocks = 0
        """The first so many blocks, and the embeddings below, are not trained; they compute without dropout, always."""
        self.ln_f = norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.token_embedding.weight
        self.apply(_init_weights)
        for name, parameter in self.named_parameters():
            if name.endswith("proj.weight"):  # the branches' last layers add up over 2·n_layer branches
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layer))

    def hidden(
        self,
        ids: Tensor,
        entering: Tensor | None = None,
        *,
        padding: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Token ids (B, T) → the last norm's output (B, T, C).

        ``padding`` (B, S), True at real tokens, for batches padded on the left; positions then count real
        tokens only, as `transformers` does.  Padding on the right needs none: causal attention never looks
        there.  With ``cache``, ``ids`` continue what the cache holds.  ``entering`` is what ``below`` gives for the
        ids, where it is known already.
        """
        x = self._stream(ids, entering, len(self.blocks), padding, cache)
        if cache is not None:
            cache.length += ids.shape[1]
        return self.ln_f(x)

    def below(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) → what enters the first block that isn't frozen (B, T, C)."""
        return self._stream(ids, None, self.frozen_blocks)

    def parameters_below(self) -> Iterator[nn.Parameter]:
        """The weights that decide what ``below`` gives."""
        for module in (self.token_embedding, self.position_embedding, self.blocks[: self.frozen_blocks]):
            if module is not None:
                yield from module.parameters()

    def _stream(
        self,
        ids: Tensor,
        entering: Tensor | None,
        end: int,
        padding: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """What enters block ``end``, from the ids or from what entered the first block that isn't frozen."""
        config, T, start = self.config, ids.shape[1], cache.length if cache is not None else 0
        if start + T > config.context_length:
            raise ValueError(f"{start + T} tokens exceed the context of {config.context_length}")
        if padding is None:
            positions, mask = torch.arange(start, start + T, device=ids.device), None  # (T)
        else:
            positions, mask = _padded(padding, T)  # (B, T), (B, 1, T, S)
        turns = None
        if self.position_embedding is None:
            turns = rotation(config, positions, start + T)  # (2, …, 1, T, D)
        x, first = (self._embedded(ids, positions), 0) if entering is None else (entering, self.frozen_blocks)
        for layer in range(first, end):
            x = self.blocks[layer](x, mask, cache, layer, turns)
        return x

    def _embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        x = self.token_embedding(ids)  # (B, T, C)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
        return F.dropout(x, self.config.dropout, self.training and not self.frozen_blocks)

    def train(self, mode: bool = True) -> "GPT":
        super().train(mode)
        self.blocks[: self.frozen_blocks].eval()
        return self

    def forward(self, ids: Tensor, *, padding: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        return self.head(self.hidden(ids, padding=padding, cache=cache))  # (B, T, V)

    @property
    def body(self) -> "GPT":
        """The language model that every kind of model has inside; of a language model, itself."""
        return self

    def n_params(self) -> int:
        """Number of parameters, a shared matrix counted once."""
        return sum(p.numel() for p in self.parameters())


def _padded(padding: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """Positions (B, T) and attention mask (B, 1, T, S) of the T newest tokens of a left-padded batch."""
    S = padding.shape[1]
    positions = (padding.long().cumsum(1) - 1).clamp(min=0)[:, -T:]
    causal = torch.ones(T, S, dtype=torch.bool, device=padding.device).tril(S - T)
    itself = torch.eye(S, dtype=torch.bool, device=padding.device)[-T:]  # a padded query must see something
    return positions, ((causal & padding[:, None, :].bool()) | itself)[:, None]


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)

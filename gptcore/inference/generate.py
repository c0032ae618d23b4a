"""Text from a model: greedy or sampled, one token at a time, with the keys and values of earlier tokens
kept.

Each new token costs one pass over the weights instead of one over the whole text so far; `weights.py` makes
that pass as short as the memory allows.  Positions count from the start of what the cache holds, so a full
cache can't slide: when the context is full, generation goes on from its later half.

Sampling keeps the ``top_k`` most likely tokens, then the smallest set whose probability reaches ``top_p``
(Holtzman et al., 2020).  A seed makes it repeatable and leaves the global random state alone.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from gptcore.model import GPT
from gptcore.model.attention import KVCache


@torch.inference_mode()
def generate(
    model: GPT,
    ids: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | None = None,
    seed: int | None = None,
    padding: Tensor | None = None,
) -> Tensor:
    """Continue ids (B, T) → (B, T + new), new ≤ ``max_new_tokens``.

    ``temperature`` 0 is greedy.  A row that has produced ``stop`` is filled with it; generation ends when
    all rows have.  ``padding`` (B, T), True at real tokens, for prompts padded on the left.
    """
    new = list(
        stream(
            model,
            ids,
            max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=stop,
            seed=seed,
            padding=padding,
        )
    )
    return torch.cat([ids, *[token[:, None] for token in new]], dim=1)


@torch.inference_mode()
def stream(
    model: GPT,
    ids: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | None = None,
    seed: int | None = None,
    padding: Tensor | None = None,
) -> Iterator[Tensor]:
    """As ``generate``, yielding each new token (B) as soon as it is known."""
    _check(model, ids, temperature, top_k, top_p)
    model.eval()
    generator = torch.Generator(device=ids.device)
    if seed is not None:
        generator.manual_seed(seed)
    else:
        generator.seed()
    finished = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    window = _Window(model, ids, padding, room=max_new_tokens)
    for _ in range(max_new_tokens):
        logits = window.next_logits()  # (B, V)
        token = sample(logits, temperature, top_k, top_p, generator)  # (B)
        if stop is not None:
            token = torch.where(finished, stop, token)
            finished |= token == stop
        yield token
        if finished.all():
            return
        window.append(token)


def sample(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> Tensor:
    """Logits (B, V) → token ids (B)."""
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    logits = logits.float() / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if top_p is not None:
        ordered, order = logits.sort(dim=-1, descending=True)
        probs = ordered.softmax(dim=-1)
        beyond = probs.cumsum(dim=-1) - probs >= top_p  # the mass before a token already suffices
        beyond[:, 0] = False
        logits = logits.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


class _Window:
    """The text so far as the model sees it: a cache, and the tokens that are not in it yet."""

    def __init__(self, model: GPT, ids: Tensor, padding: Tensor | None, room: int) -> None:
        self.model, self.padding = model, padding
        self.context = model.config.context_length
        self.ids = ids
        self.room = room
        self._refill(ids)

    def next_logits(self) -> Tensor:
        if self.model.step is not None and self.padding is None and self.pending.shape == (1, 1):
            return self.model.step(int(self.pending), self.cache)
        hidden = self.model.hidden(self.pending, padding=self.padding, cache=self.cache)
        return self.model.head(hidden[:, -1]).float()  # (B, V); searching bfloat16 takes six times as long

    def append(self, token: Tensor) -> None:
        self.ids = torch.cat([self.ids, token[:, None]], dim=1)
        self.pending = token[:, None]
        if self.padding is not None:
            self.padding = torch.cat([self.padding, torch.ones_like(self.padding[:, :1])], dim=1)
        if self.cache.length + 1 > self.context:
            self._refill(self.ids[:, -max(1, self.context // 2) :])

    def _refill(self, ids: Tensor) -> None:
        """Start a new cache from the last tokens that fit."""
        self.pending = ids[:, -self.context :]
        if self.padding is not None:
            self.padding = self.padding[:, -self.pending.shape[1] :]
        self.cache = KVCache(
            self.model.config,
            len(ids),
            min(self.context, self.pending.shape[1] + self.room),
            dtype=torch.float32 if ids.device.type == "cpu" else self.model.token_embedding.weight.dtype,
            device=ids.device,
        )


def _check(model: GPT, ids: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ValueError(f"ids of shape {tuple(ids.shape)}: expected (B, T) with at least one token")
    if int(ids.max()) >= model.config.vocab_size or int(ids.min()) < 0:
        raise ValueError(f"ids: expected 0 … {model.config.vocab_size - 1}, found {int(ids.min())} … {int(ids.max())}")
    if not temperature >= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError(
            f"temperature = {temperature}, top_k = {top_k}, top_p = {top_p}: "
            "expected temperature ≥ 0, top_k ≥ 1, 0 < top_p ≤ 1"
        )

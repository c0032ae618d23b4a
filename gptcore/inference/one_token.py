"""The next token of one text in int8, by all blocks as one compiled function (`compiled.py`).

A single token is hundreds of products and steps between them, too small for PyTorch: of SmolLM2 (135M parameters, 30
blocks) on two cores without AVX-512, a token took 36 ms or more, 23 of them in int8 products that their arithmetic
bounds, the rest between the operations.  Compiled it takes 12, in which the memory delivers the weights at 11 GB/s.

Costs: numba and LLVM, 200 MB beside PyTorch's; a second of loading, and what compiling takes the first time.  With
GNU's OpenMP in the system numba shares its threads; without it numba has a pool of its own, whose threads wake slower
(26 ms).  Rejected: ``torch.compile``, which needs a C++ compiler and half a minute a process; PyTorch's 4-bit product,
which without AVX-512 takes longer (15.7 ms for the matrices alone) and rounds more.
"""

from threading import Lock
from typing import Any

import torch
from numba import config as numba_config
from numba import set_num_threads
from torch import Tensor

from gptcore.inference.compiled import ACTIVATIONS, Matrix, Norm, Options, Weights, step
from gptcore.inference.linear import Int8Linear
from gptcore.model import GPT
from gptcore.model.attention import KVCache
from gptcore.model.positions import rotation

_running = Lock()
"""Some of numba's pools of threads take one caller at a time."""


class OneToken:
    """``OneToken(copy)(token, cache)``: logits (1, V) of what follows ``token``, which the cache takes in.

    ``copy`` is what ``for_inference`` made on the CPU in int8; the matrices of its blocks are laid together here, and
    it goes on with views of them.
    """

    def __init__(self, copy: GPT) -> None:
        config = copy.config
        self.model = copy
        self.options = Options(
            config.n_head,
            config.kv_heads,
            config.head_dim,
            config.norm == "layernorm",
            config.layer_norm_eps,
            config.residual == "parallel",
            config.qk_norm,
            ACTIVATIONS.index(config.mlp),
        )
        self.weights = Weights(
            _norms(copy, "ln_1"),
            _matrices(copy, "attn.qkv"),
            _norms(copy, "attn.q_norm") if config.qk_norm else _NO_NORM,
            _norms(copy, "attn.k_norm") if config.qk_norm else _NO_NORM,
            _matrices(copy, "attn.proj"),
            _norms(copy, "ln_2"),
            _matrices(copy, "mlp.fc"),
            _matrices(copy, "mlp.proj"),
            _stacked_norms([copy.ln_f]),
            _stacked_matrices([copy.head]),
        )

    def __call__(self, token: int, cache: KVCache) -> Tensor:
        model, position = self.model, cache.length
        if position >= min(cache.max_length, model.config.context_length):
            raise ValueError(f"position {position}: the cache holds {cache.max_length} tokens")
        x, turns = model.token_embedding.weight[token].clone(), torch.empty(2, 0)  # (C)
        if model.position_embedding is not None:
            x += model.position_embedding.weight[position]
        else:
            turns = rotation(model.config, torch.tensor([position]), position + 1).view(2, -1)  # (2, D)
        kept = (cache.keys[:, 0].numpy(), cache.values[:, 0].numpy())  # (L, K, S, D) each
        logits = torch.empty(1, model.config.vocab_size)
        with _running:
            set_num_threads(min(torch.get_num_threads(), numba_config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
            step(x.numpy(), turns.numpy(), *kept, position, self.options, self.weights, logits[0].numpy())
        cache.length += 1
        return logits


def _matrices(model: GPT, name: str) -> Matrix:
    return _stacked_matrices([block.get_submodule(name) for block in model.blocks])


def _norms(model: GPT, name: str) -> Norm:
    return _stacked_norms([block.get_submodule(name) for block in model.blocks])


def _stacked_matrices(layers: list[Any]) -> Matrix:
    """The layers' weights side by side, of which they become views: there is one of each in memory."""
    weights = torch.stack([layer.weight for layer in layers])
    for layer, weight in zip(layers, weights, strict=True):
        assert isinstance(layer, Int8Linear)
        layer.weight = weight
    biases = [torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias.float() for layer in layers]
    scales = torch.stack([layer.scale.float() for layer in layers])
    return Matrix(weights.numpy(), scales.numpy(), torch.stack(biases).numpy())


def _stacked_norms(layers: list[Any]) -> Norm:
    weights = torch.stack([layer.weight.detach() for layer in layers])
    biases = [b.detach() for layer in layers if (b := getattr(layer, "bias", None)) is not None]  # of all, or of none
    return Norm(weights.numpy(), (torch.stack(biases) if biases else torch.zeros_like(weights)).numpy())


_NO_NORM = Norm(torch.zeros(1, 0).numpy(), torch.zeros(1, 0).numpy())

"""All blocks of a model over one token of one text, int8 weights, as loops that numba compiles.

A product multiplies an int8 weight, widened, with a float32 channel, as fast as the memory delivers; between the
products there is nothing to wait for.  It is `model/` a second time, for B = T = 1; tests hold it to the first
(tests/gptcore/inference/test_one_token.py).  Compiling takes 16 s, once for a processor and version: the result is kept
in ``__pycache__``, or where numba keeps such things of a read-only installation.

Sums may be taken in any order, as vectors need it, but one thread takes all of a row: the number of threads changes no
bit.  Axes as in `model/attention.py`, without B and T; a matrix is (L, out, in), L the blocks.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Array = NDArray[Any]
ACTIVATIONS = ("gelu", "gelu-exact", "swiglu")
_ANY_ORDER = {"reassoc", "contract", "nsz"}
"""What is no number stays none."""


class Matrix(NamedTuple):
    """The same layer of all blocks; a bias that isn't there is zero."""

    weight: Array
    """(L, out, in) int8."""
    scale: Array
    """(L, out)."""
    bias: Array
    """(L, out)."""


class Norm(NamedTuple):
    weight: Array
    """(L, C)."""
    bias: Array


class Options(NamedTuple):
    """What decides how a block computes; the same machine code serves all."""

    heads: int
    kv_heads: int
    head_dim: int
    centred: bool
    """LayerNorm, which subtracts the mean."""
    eps: float
    parallel: bool
    qk_norm: bool
    activation: int
    """Of the MLP, by its place in ``ACTIVATIONS``."""


class Weights(NamedTuple):
    ln_1: Norm
    qkv: Matrix
    q_norm: Norm
    k_norm: Norm
    proj: Matrix
    ln_2: Norm
    fc: Matrix
    down: Matrix
    ln_f: Norm
    head: Matrix


def _compiled(function: Callable[..., Any], parallel: bool = False) -> Any:
    try:
        return njit(cache=True, fastmath=_ANY_ORDER, parallel=parallel)(function)
    except RuntimeError:  # there is no folder to keep it in
        return njit(fastmath=_ANY_ORDER, parallel=parallel)(function)


def _shared_out(function: Callable[..., Any]) -> Any:
    return _compiled(function, parallel=True)


@_compiled
def _dot(x, row):
    total = np.float32(0)
    for channel in range(len(x)):
        total += x[channel] * np.float32(row[channel])
    return total


@_shared_out
def _product(x, matrix, layer, y, add):
    """y = W·x + b, or that added to y."""
    weight, scale, bias = matrix.weight[layer], matrix.scale[layer], matrix.bias[layer]
    for row in prange(len(y)):
        value = _dot(x, weight[row]) * scale[row] + bias[row]
        y[row] = y[row] + value if add else value


@_shared_out
def _widen(x, matrix, layer, activation, y):
    """The MLP's first matrix and its activation."""
    weight, scale, bias = matrix.weight[layer], matrix.scale[layer], matrix.bias[layer]
    width = len(y)
    for row in prange(width):
        value = _dot(x, weight[row]) * scale[row] + bias[row]
        if activation == 0:
            inner = np.float32(math.sqrt(2 / math.pi)) * (value + np.float32(0.044715) * value * value * value)
            y[row] = np.float32(0.5) * value * (np.float32(1) + np.float32(math.tanh(inner)))
        elif activation == 1:
            y[row] = np.float32(0.5) * value * (np.float32(1) + np.float32(math.erf(value * math.sqrt(0.5))))
        else:
            up = _dot(x, weight[width + row]) * scale[width + row] + bias[width + row]
            y[row] = value / (np.float32(1) + np.float32(math.exp(-value))) * up


@_compiled
def _normalise(x, norm, layer, centred, eps, y):
    """LayerNorm or, not ``centred``, RMSNorm; ``y`` may be ``x``."""
    mean = np.float32(0)
    if centred:
        for value in x:
            mean += value
        mean /= len(x)
    square = np.float32(0)
    for value in x:
        square += (value - mean) * (value - mean)
    factor = np.float32(1 / math.sqrt(square / len(x) + eps))
    for channel in range(len(x)):
        y[channel] = (x[channel] - mean) * factor * norm.weight[layer, channel] + norm.bias[layer, channel]


@_compiled
def _turn(x, turns):
    """As `positions.rotate`; without turns, as with learned positions, nothing."""
    half = turns.shape[1] // 2
    for low in range(half):
        high = low + half
        a, b = x[low], x[high]
        x[low] = a * turns[0, low] + b * turns[1, low]
        x[high] = b * turns[0, high] + a * turns[1, high]


@_shared_out
def _attend(lines, keys, values, scores, y):
    """Each head's query over the keys (K, S, D) of its group, as many as there are ``scores`` (H, S) to fill."""
    heads, D = y.shape
    length, group = scores.shape[1], heads // len(keys)
    scale = np.float32(1 / math.sqrt(D))
    for head in prange(heads):
        query, k, v, weights = lines[head], keys[head // group], values[head // group], scores[head]
        largest = np.float32(-np.inf)
        for s in range(length):
            weights[s] = _dot(query, k[s]) * scale
            largest = max(largest, weights[s])
        total = np.float32(0)
        for s in range(length):
            weights[s] = np.float32(math.exp(weights[s] - largest))
            total += weights[s]
        y[head] = 0
        for s in range(length):
            weight = weights[s] / total
            for channel in range(D):
                y[head, channel] += weight * v[s, channel]


@_compiled
def step(x, turns, keys, values, position, options, weights, logits):
    """What enters the first block, x (C), and the token's ``turns`` (2, D) → ``logits`` (V).

    ``keys`` and ``values`` (L, K, S, D) hold those of the tokens before ``position`` and take in the token's own; x is
    overwritten.
    """
    heads, kv_heads, centred, eps = options.heads, options.kv_heads, options.centred, options.eps
    normed = np.empty_like(x)
    lines = np.empty((heads + 2 * kv_heads, options.head_dim), np.float32)  # the heads' queries, keys, values
    y = np.empty((heads, options.head_dim), np.float32)
    scores = np.empty((heads, position + 1), np.float32)
    hidden = np.empty(weights.down.weight.shape[2], np.float32)
    for layer in range(len(keys)):
        _normalise(x, weights.ln_1, layer, centred, eps, normed)
        _product(normed, weights.qkv, layer, lines.reshape(-1), False)
        for line in range(heads + kv_heads):
            if options.qk_norm:
                head_norm = weights.q_norm if line < heads else weights.k_norm
                _normalise(lines[line], head_norm, layer, False, eps, lines[line])
            _turn(lines[line], turns)
        keys[layer, :, position] = lines[heads : heads + kv_heads]
        values[layer, :, position] = lines[heads + kv_heads :]
        _attend(lines, keys[layer], values[layer], scores, y)
        if options.parallel:
            _normalise(x, weights.ln_2, layer, centred, eps, normed)
        _product(y.reshape(-1), weights.proj, layer, x, True)
        if not options.parallel:
            _normalise(x, weights.ln_2, layer, centred, eps, normed)
        _widen(normed, weights.fc, layer, options.activation, hidden)
        _product(hidden, weights.down, layer, x, True)
    _normalise(x, weights.ln_f, 0, centred, eps, normed)
    _product(normed, weights.head, 0, logits, False)

"""N-gram language models with interpolated Kneser-Ney smoothing.

``KneserNey`` is the interpolated n-gram model with modified Kneser-Ney smoothing: three discounts an order
(Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling") and, below the
highest order, counts of distinct left neighbours in place of occurrences.  An n-gram that begins with
a document's end-of-text has no left neighbour, so it keeps its occurrences (Heafield et al. 2013, "Scalable
modified Kneser-Ney language model estimation").  Below the unigrams lies the uniform
distribution: nothing has probability zero.

The n-grams are numbered order by order: an n-gram is the pair (number of its context, last token) packed
in one int64, so that fitting is one sort an order and scoring one binary search an order.  Rejected: a
dictionary of tuples (the same numbers, more slowly: the tests hold it as the oracle), a toolkit (a
C++ build or another dependency) and padding a document with several end-of-texts (it discounts the same
first token once for every order).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from gptcore.errors import DataError, ParameterError

UNSEEN = -1


@dataclass(frozen=True)
class Level:
    """The n-grams of one order, sorted by (context, last token)."""

    keys: np.ndarray
    """(N,) context number · vocab_size + last token, ascending; an n-gram's number is its index here."""
    shares: np.ndarray
    """(N,) what is left of an n-gram's count after the discount, divided by its context's total."""
    backoff: np.ndarray
    """(number of contexts,) what a context's discounts add up to, divided by its total; 1 where nothing follows."""

    def find(self, context: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """The numbers of the n-grams with these keys, or UNSEEN."""
        index = np.searchsorted(self.keys, keys)
        found = (context != UNSEEN) & (np.append(self.keys, UNSEEN)[index] == keys)
        return np.where(found, index, UNSEEN)


@dataclass(frozen=True)
class KneserNey:
    """An interpolated n-gram model of documents that each follow an end-of-text, which is itself never predicted."""

    levels: tuple[Level, ...]
    """Orders 1 to n."""
    vocab_size: int
    eot: int

    @classmethod
    def fit(cls, documents: Sequence[np.ndarray], order: int, vocab_size: int, eot: int) -> "KneserNey":
        """Count the n-grams of ``documents`` (token ids without end-of-text) up to ``order``."""
        if order < 1:
            raise ParameterError(f"order: expected at least 1, found {order}; order 1 is the unigram model")
        if not 0 <= eot < vocab_size:
            raise ParameterError(f"eot: expected an id below vocab_size {vocab_size}, found {eot}")
        stream = _stream(documents, vocab_size, eot)
        return cls(tuple(_count(stream, order, vocab_size, eot)), vocab_size, eot)

    def nats(self, documents: Sequence[np.ndarray]) -> np.ndarray:
        """Minus the log probability of every token of ``documents``, in their order."""
        stream = _stream(documents, self.vocab_size, self.eot)
        probability = np.full(len(stream), 1 / self.vocab_size)
        for level, context, gram in self._locate(stream):
            known = np.flatnonzero(context != UNSEEN)  # elsewhere the lower order speaks alone
            shares = np.append(level.shares, 0.0)[gram[known]]  # UNSEEN picks the last: no share
            probability[known] = shares + level.backoff[context[known]] * probability[known]
        return -np.log(probability[stream != self.eot])

    def _locate(self, stream: np.ndarray) -> Iterator[tuple[Level, np.ndarray, np.ndarray]]:
        """For each order: the numbers of every position's context and n-gram, or UNSEEN."""
        context = np.zeros_like(stream)
        for level in self.levels:
            gram = level.find(context, context * self.vocab_size + stream)
            yield level, context, gram
            context = _next_context(gram, stream, self.eot)


def kneser_ney_nats(
    train: Sequence[np.ndarray], test: Sequence[np.ndarray], order: int, vocab_size: int, eot: int
) -> float:
    """Total nats of all tokens of ``test`` under an n-gram model of ``train``."""
    return float(KneserNey.fit(train, order, vocab_size, eot).nats(test).sum())


def _stream(documents: Sequence[np.ndarray], vocab_size: int, eot: int) -> np.ndarray:
    """All documents in one array, an end-of-text before each."""
    for number, document in enumerate(documents):
        ids = np.asarray(document)
        if ids.size and (ids.min() < 0 or ids.max() >= vocab_size or (ids == eot).any()):
            raise DataError(
                f"document {number}: expected token ids below {vocab_size} other than end-of-text {eot}, "
                f"found {ids.min()} to {ids.max()}; tokenize it again with this vocabulary"
            )
    pieces = [piece for document in documents for piece in ([eot], document)]
    return np.concatenate([np.empty(0, dtype=np.int64), *pieces]).astype(np.int64)


class NGrams(NamedTuple):
    """The n-grams of one order as they lie in a stream."""

    keys: np.ndarray
    """(N,) as in Level: ascending, distinct."""
    at: np.ndarray
    """(length of the stream,) number of the n-gram that ends at each position, or UNSEEN."""
    first: np.ndarray
    """(N,) one position where each n-gram ends."""


def _number(context: np.ndarray, stream: np.ndarray, vocab_size: int) -> NGrams:
    """Give each distinct pair of context and token a number."""
    where = np.flatnonzero(context != UNSEEN)
    pairs = context[where] * vocab_size + stream[where]
    keys, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
    at = np.full(len(stream), UNSEEN)
    at[where] = inverse
    return NGrams(keys, at, where[first])


def _count(stream: np.ndarray, order: int, vocab_size: int, eot: int) -> Iterator[Level]:
    """The levels of a model of ``stream``, lowest order first."""
    ngrams, context = [], np.zeros_like(stream)
    for _ in range(order):
        ngrams.append(_number(context, stream, vocab_size))
        context = _next_context(ngrams[-1].at, stream, eot)
    n_contexts = 1
    for (keys, at, _), longer in zip_longest(ngrams, ngrams[1:]):
        counts = np.bincount(at[(at != UNSEEN) & (stream != eot)], minlength=len(keys))
        if longer is not None:  # below the highest order: distinct left neighbours, if there are any
            neighbours = np.bincount(at[longer.first], minlength=len(keys))
            counts = np.where(neighbours > 0, neighbours, counts)
        yield _smooth(keys, counts, n_contexts, vocab_size)
        n_contexts = len(keys)


def _next_context(gram: np.ndarray, stream: np.ndarray, eot: int) -> np.ndarray:
    """The context of a position at the next order is the n-gram that ends just before it; none reaches across
    a document's start."""
    return np.where(stream == eot, UNSEEN, np.roll(gram, 1))


def _smooth(keys: np.ndarray, counts: np.ndarray, n_contexts: int, vocab_size: int) -> Level:
    """Take the discount off every count; what a context loses goes to the lower order."""
    context = keys // vocab_size
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    total = np.bincount(context, weights=counts, minlength=n_contexts)
    lost = np.bincount(context, weights=discounts, minlength=n_contexts)
    backoff = np.divide(lost, total, out=np.ones(n_contexts), where=total > 0)
    shares = np.divide(counts - discounts, total[context], out=np.zeros(len(keys)), where=counts > 0)
    return Level(keys, shares, backoff)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What to take off a count of 0, 1, 2, and 3 or more: Chen & Goodman's estimate from how many n-grams
    have which count.  Too few n-grams for three discounts: one for all; too few even for that: one half."""
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if not (n1 and n2):
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = n1 / (n1 + 2 * n2)
    two, three = (2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3) if n3 and n4 else (y, y)
    return np.array([0.0, y, two, three] if min(two, three) > 0 else [0.0, y, y, y])

"""The proof that a directory means the same to another program as to us: token ids, logits, greedy text, labels.

Both sides read the directory or the model and compute in float32 on the CPU.  The texts are a few of every
kind that has broken a tokenizer before, and random tokens of the whole vocabulary, as long as the context, so
that every position and most rows of the embedding take part; rotary positions have nothing learned, and 1,024 of
them are enough.  For a model of 5M parameters the comparison costs half a second, for one of 135M some minutes.

A difference in logits is reported as the power of ten that bounds it: the last digits of a float32 sum
are not a property of the model.  The tolerance is 1e-4, and where logits exceed 10 a hundred-thousandth of the
largest: float32 has seven digits, and GPT-2's logits exceed 100.  Two greedy texts may part where our two
best logits are closer than that: there the maximum is a matter of rounding, on any two machines.

Deep models have texts on which rounding grows a thousandfold: SmolLM2's logits change by 0.014 after a few random
tokens when the last bit of the embedding is another, and those of two ways that `transformers` has of computing
attention by 0.005.  So where the tolerance is exceeded, our model is asked what the last bit of its embedding changes
on these very texts, and four times that is asked of the other program, which rounds in every layer.  That excuses a
few positions and never most of them: three in four have to be within the tolerance all the same.

Rejected: comparing files or weights.  Equal weights under another activation or padding rule are another model.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from gptcore.data import pad
from gptcore.formats.table import Model
from gptcore.inference.generate import generate
from gptcore.model import GPT, Classifier
from gptcore.tokenizer import Tokenizer

TOLERANCE = 1e-4
"""Largest |logit difference| between two float32 implementations that counts as the same function …"""
RELATIVE_TOLERANCE = 1e-5
"""… and where logits are large, as a part of the largest |logit|."""
ROTARY_POSITIONS = 1_024
"""Most tokens in a text, where positions are rotary."""
ROUNDINGS = 4
"""Times the last bit's change that two programs may differ: by chance it is sometimes the smaller of the two."""
MOST_BEYOND = 0.25
"""Share of the positions at which rounding may be an excuse."""
_FLOOR = 1e-6  # below this the difference is rounding of the last bit, and its power of ten is chance
_PROMPT_TOKENS = 8  # of each text, before its greedy continuation

_TEXTS = (
    "Once upon a time there was a king who had three daughters.",
    "The company said it earned 1,234,567 dlrs or 89 cts per share, vs 12.5 mln a year ago.",
    "I'll say they've said we'd better; it's Tom's, isn't it? DON'T SHOUT!",
    "def f(x):\n    return {x: [x ** 2, 'x']}  # indented\n\n\n\tTabs and   runs of   spaces   ",
    "Füße, naïveté, Škoda, ελληνικά, русский, 日本語, עברית, हिन्दी",
    "Emoji 🙂👩‍👩‍👧‍👦🇪🇺, combining e\u0301 a\u0308, zero\u200bwidth, no\u00a0break, \ufeff mark",
    "### Instruction: Reverse the word.\n### Input: stone\n### Response:",
    "a",
)


class Numbers(NamedTuple):
    """Of one batch."""

    apart: Tensor
    """(positions), the largest |logit difference| at each."""
    largest: float
    """|logit| of ours."""


@dataclass(frozen=True)
class Parity:
    """What was compared, and how it came out."""

    texts: int
    tokens: int
    max_logit_difference: float
    max_logit: float
    """Largest |logit| of ours."""
    token_ids_equal: bool
    choices_equal: bool
    """Greedy texts of a language model, or labels of a classifier, agree."""
    new_tokens: int = 0
    """Length of the greedy texts; 0 for a classifier."""
    against: str = "transformers"
    """Who read the directory: ``transformers``, or ``gptcore`` where it is for this library alone."""
    last_bit: float = 0.0
    """What the last bit of our embedding changes in our logits; 0 where nobody had to ask."""
    beyond: float = 0.0
    """Share of the positions that differ by more than the tolerance for all."""

    @property
    def tolerance(self) -> float:
        """What the difference may be, to one digit."""
        return float(f"{max(_tolerance(self.max_logit), ROUNDINGS * self.last_bit):.0e}")

    @property
    def bound(self) -> str:
        """The power of ten that bounds the difference, as ``"< 1e-5"``."""
        return _power_of_ten(self.max_logit_difference)

    def statement(self) -> dict[str, Any]:
        """The outcome as the metrics and ``parity.json`` word it."""
        choices = "greedy_equal" if self.new_tokens else "labels_equal"
        return {
            "max_logit_difference": self.bound,
            choices: self.choices_equal,
            "token_ids_equal": self.token_ids_equal,
            "against": self.against,
        } | ({"last_bit_of_embedding": _power_of_ten(self.last_bit)} if self.last_bit else {})

    def problems(self) -> list[str]:
        """Every way in which the two sides differ; empty if they agree."""
        found = []
        if not self.max_logit_difference <= self.tolerance:  # also true for NaN
            found.append(f"logits differ by {self.max_logit_difference:.3g}, expected at most {self.tolerance:g}")
        elif self.beyond > MOST_BEYOND:
            within = _tolerance(self.max_logit)
            found.append(f"logits differ by more than {within:.3g} at {self.beyond:.0%} of the positions")
        if not self.token_ids_equal:
            found.append("token ids differ")
        if not self.choices_equal:
            found.append("greedy texts differ" if self.new_tokens else "labels differ")
        return found


class Reader(Protocol):
    """The other side: a program that has read the directory."""

    name: str
    labels: list[str]
    """Of a classifier, in the order of its logits."""

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]: ...

    def logits(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        """Of (B, T) ids; ``real`` (B, T) is True at tokens that are not padding."""
        ...

    def greedy(self, ids: Tensor, new_tokens: int, eot: int) -> Tensor: ...


def compare(
    reader: AbstractContextManager[Reader], model: Model, tokenizer: Tokenizer, texts: int, new_tokens: int
) -> Parity:
    """What another program made of a directory, against ``model`` and ``tokenizer``."""
    context = model.config.context_length
    sample = sample_texts(tokenizer, texts, _longest(model))
    with reader as theirs, torch.inference_mode():
        rows = [tokenizer.encode(text) for text in sample]
        same_ids = rows == theirs.token_ids(sample)
        rows = [row[:context] for row in rows]
        if isinstance(model, Classifier):
            batches = [*map(_as_batch, rows), pad(rows, model.pad_id)]  # each alone, then all, padded on the right
            of_each, agree = _compare_classifiers(model, theirs, batches)
            new_tokens = 0
        else:
            batches = list(map(_as_batch, rows))
            of_each = [_numbers(model(ids), theirs.logits(ids)) for ids in batches]
            new_tokens = min(new_tokens, context - 1)
            agree = _compare_greedy(model, theirs, tokenizer.stop, rows, new_tokens)
        apart, largest = torch.cat([each.apart for each in of_each]), max(each.largest for each in of_each)
        within = _tolerance(largest)
        sensitive = [ids for ids, each in zip(batches, of_each, strict=True) if each.apart.max() > within]
        last_bit = _last_bit(model, sensitive) if sensitive else 0.0
    difference, beyond = float(apart.max()), float((apart > within).double().mean())
    numbers = (len(sample), sum(map(len, rows)), difference, largest)
    return Parity(*numbers, same_ids, agree, new_tokens, theirs.name, last_bit, beyond)


def _longest(model: Model) -> int:
    """Tokens in a text that let everything learned take part."""
    context = model.config.context_length
    return min(context, ROTARY_POSITIONS) if model.config.positions == "rotary" else context


def _last_bit(model: Model, batches: Sequence[Tensor]) -> float:
    """The largest change of the logits when every number of the embedding is the one next to it, up or down."""
    weight = model.body.token_embedding.weight
    before, exact = [model(ids) for ids in batches], weight.clone()
    up = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    weight.copy_(torch.nextafter(exact, torch.where(up, math.inf, -math.inf)))
    try:
        return max(float(_numbers(model(ids), old).apart.max()) for ids, old in zip(batches, before, strict=True))
    finally:
        weight.copy_(exact)


def sample_texts(tokenizer: Tokenizer, count: int, length: int) -> list[str]:
    """``count`` texts: a fixed one, one of ``length`` random tokens, and so on; random ones only after the last."""
    generator = np.random.default_rng(0)
    random = [tokenizer.decode(_words(tokenizer, generator, length)) for _ in range(count)]
    alternating = [text for pair in zip(_TEXTS, random, strict=False) for text in pair]
    return (alternating + random[len(_TEXTS) :])[:count]


def _words(tokenizer: Tokenizer, generator: np.random.Generator, length: int) -> list[int]:
    """So many tokens, any that stand for some of a text."""
    drawn = generator.integers(tokenizer.n_vocab - 1, size=length).tolist()
    return [token for token in drawn if tokenizer.has_text(token)]


def _compare_classifiers(ours: Classifier, theirs: Reader, batches: list[Tensor]) -> tuple[list[Numbers], bool]:
    our_logits = [ours(ids) for ids in batches]  # each (1 or texts, labels)
    their_logits = [theirs.logits(ids, ids != ours.pad_id) for ids in batches]
    chosen = torch.cat(their_logits).argmax(dim=-1)
    agree = theirs.labels == ours.labels and _among_best(torch.cat(our_logits), chosen)
    return list(map(_numbers, our_logits, their_logits)), agree


def _compare_greedy(ours: GPT, theirs: Reader, eot: int, rows: list[list[int]], new_tokens: int) -> bool:
    """Whether both continue the texts' beginnings, as one batch, by the same tokens."""
    rows = [row for row in rows if len(row) >= _PROMPT_TOKENS] or rows
    width = min(_PROMPT_TOKENS, *map(len, rows), ours.config.context_length - new_tokens)
    prompts = torch.tensor([row[:width] for row in rows])
    our_ids = generate(ours, prompts, new_tokens, stop=eot)
    their_ids = theirs.greedy(prompts, new_tokens, eot)
    return all(_same_greedy(ours, a, b) for a, b in zip(our_ids, their_ids, strict=True))


def _same_greedy(model: GPT, ours: Tensor, theirs: Tensor) -> bool:
    """Whether two continuations (T,) are equal, or part at a tie."""
    if torch.equal(ours, theirs):
        return True
    if len(ours) != len(theirs):
        return False
    at = int((ours != theirs).nonzero()[0])
    return _among_best(model(ours[None, :at])[:, -1], theirs[at : at + 1])


def _among_best(logits: Tensor, choice: Tensor) -> bool:
    """Whether each row's ``choice`` (B) has the highest of ``logits`` (B, N), up to the tolerance."""
    chosen = logits.gather(-1, choice[:, None])[:, 0]
    return bool((chosen >= logits.max(dim=-1).values - _tolerance(float(logits.abs().max()))).all())


def _tolerance(max_logit: float) -> float:
    return max(TOLERANCE, RELATIVE_TOLERANCE * max_logit) if math.isfinite(max_logit) else TOLERANCE


def _numbers(ours: Tensor, theirs: Tensor) -> Numbers:
    """Of logits (…, N); those of another shape are infinitely far apart."""
    apart = (ours - theirs).abs().amax(dim=-1).flatten() if ours.shape == theirs.shape else torch.tensor([math.inf])
    return Numbers(apart, float(ours.abs().max()))


def _power_of_ten(number: float) -> str:
    """That bounds it, as ``"< 1e-5"``."""
    if not math.isfinite(number):
        return "not finite"
    return f"< 1e{math.floor(math.log10(max(number, _FLOOR / 10))) + 1}"


def _as_batch(row: list[int]) -> Tensor:
    return torch.tensor([row])

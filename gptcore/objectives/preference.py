"""Preference tuning: the right answer becomes likelier than a wrong one, measured against a frozen reference (DPO).

With h = log π(y|x) - log π_ref(y|x), the log-probability of an answer y to a prompt x under the model, less that
under the model as it was, of a chosen answer y_w and a rejected one y_l, and z = β·(h_w - h_l), the losses are

    sigmoid       -log σ(z)                              Rafailov et al. 2023, eq. 7
                  -(1-ε)·log σ(z) - ε·log σ(-z)          with label smoothing ε: cDPO, Mitchell 2023
    robust        (-(1-ε)·log σ(z) + ε·log σ(-z)) / (1-2ε)     Chowdhury et al. 2024
    sigmoid_norm  as sigmoid, h divided by the tokens of its answer       Lambert et al. 2024 (Tülu 3)
    ipo           (h_w/|y_w| - h_l/|y_l| - 1/(2β))²      Azar et al. 2023, eq. 17, per token as TRL has it

under the names that TRL has for them, and to each may be added α times the loss of the chosen answers, in nats/token
(Pang et al. 2024; TRL's ``sft``).  DPO alone is content when both answers become unlikely, the wrong one more
so; where the two differ in a token or two that is what it does (docs/design-log.md has numbers).  Tests hold value
and gradients to TRL's.

The reference never changes, so its log-probabilities are numbers that come with the pairs: no second model is held,
and a pair costs what two rows of instruction tuning cost.  Each answer is a row of its own, padded on the right, so
none sees another.

Dropout is off, as in the pass that gave the reference's numbers: two passes with different masks would differ by
more than a step changes.  The logits of all tokens of the answers are held at once, for a token's gradient is only
known when its whole batch is (2 · 8 answers of 24 tokens: 75 MB for a vocabulary of 49,152).

Rejected: a row that holds the prompt once and both answers behind it, which halves the work on long prompts but needs
a mask of its own in every kernel; prompts here are as short as the answers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gptcore.data import LengthBatches, pad
from gptcore.kernels.cross_entropy import CHUNK_LOGITS, IGNORE, token_nats
from gptcore.model import GPT
from gptcore.objectives import Facts
from gptcore.preference_config import PreferenceLoss


@dataclass(frozen=True)
class Pair:
    """A prompt with a chosen and a rejected answer, as ids, and what the reference thinks of both."""

    prompt: Sequence[int]
    chosen: Sequence[int]
    """With what ends it."""
    rejected: Sequence[int]
    reference: tuple[float, float] = (0.0, 0.0)
    """log π_ref of the chosen and of the rejected answer, in nats (≤ 0)."""


class PairBatch(NamedTuple):
    """B pairs as 2·B rows: the chosen answers, then the rejected ones."""

    x: Tensor
    """(2·B, T) input ids, prompt and answer."""
    y: Tensor
    """(2·B, T) targets, ``IGNORE`` but for the answer."""
    reference: Tensor
    """(2·B) log π_ref of the answers, in nats."""


@dataclass(frozen=True)
class Preference:
    """The objective over ``pairs``, in batches of similar length."""

    pairs: Sequence[Pair]
    batch_rows: int
    """Pairs of a batch."""
    pad_id: int
    seed: int
    form: PreferenceLoss

    def batches(self, start: int) -> Iterator[PairBatch]:
        for indices in self._order().starting_at(start):
            yield pair_batch([self.pairs[i] for i in indices], self.pad_id)

    def indices(self, number: int) -> list[int]:
        """The pairs of one batch."""
        return self._order().batch(number)

    def loss(self, model: GPT, batch: PairBatch) -> tuple[Tensor, Facts]:
        """Mean over the pairs, in nats (``ipo``: nats²/token²); beside it margin and accuracy of the rewards β·h."""
        model.eval()
        logps = answer_logps(model, batch.x, batch.y)
        ratios = (logps - batch.reference).chunk(2)
        margin = self.form.beta * (ratios[0] - ratios[1]).detach()
        facts = {"reward_margin": margin.mean().item(), "reward_accuracy": (margin > 0).float().mean().item()}
        lengths = (batch.y != IGNORE).sum(1).chunk(2)
        value = preference_loss(self.form, ratios, lengths).mean()
        if self.form.sft_weight:
            value = value - self.form.sft_weight * logps.chunk(2)[0].sum() / lengths[0].sum()
        return value, facts

    def _order(self) -> LengthBatches:
        lengths = [len(p.prompt) + max(len(p.chosen), len(p.rejected)) for p in self.pairs]
        return LengthBatches(lengths, self.batch_rows, self.seed)


def preference_loss(form: PreferenceLoss, ratios: Sequence[Tensor], lengths: Sequence[Tensor]) -> Tensor:
    """Loss (B) of each pair.

    ``ratios`` are h, in nats, and ``lengths`` tokens: each (B), of the chosen answers and of the rejected ones.
    """
    chosen, rejected = ratios
    if form.per_token:
        chosen, rejected = chosen / lengths[0].clamp(min=1), rejected / lengths[1].clamp(min=1)
    if form.loss == "ipo":
        return (chosen - rejected - 1 / (2 * form.beta)).square()
    z, flipped = form.beta * (chosen - rejected), form.label_smoothing
    if form.loss == "robust":
        return (flipped * F.logsigmoid(-z) - (1 - flipped) * F.logsigmoid(z)) / (1 - 2 * flipped)
    return -(1 - flipped) * F.logsigmoid(z) - flipped * F.logsigmoid(-z)


def answer_logps(model: GPT, x: Tensor, y: Tensor) -> Tensor:
    """log π (R) in nats of the targets of each row of x, y (R, T) that are not ``IGNORE``: 0 for a row without any."""
    counted = y != IGNORE
    hidden, targets = model.hidden(x)[counted], y[counted]  # (n, C), (n)
    most = max(1, len(targets) if torch.is_grad_enabled() else CHUNK_LOGITS // model.config.vocab_size)
    parts = zip(hidden.split(most), targets.split(most), strict=True)  # without gradients: not all logits at a time
    nats = torch.cat([token_nats(model.head(h), ids) for h, ids in parts])  # (n), in fp32
    rows = counted.nonzero()[:, 0]
    return torch.zeros(len(x), device=x.device).index_add(0, rows, -nats)


def pair_batch(pairs: Sequence[Pair], pad_id: int) -> PairBatch:
    """Pairs as rows that are padded on the right; prompt and padding carry no loss."""
    answers = [(p.prompt, p.chosen) for p in pairs] + [(p.prompt, p.rejected) for p in pairs]
    x = pad([[*prompt, *answer][:-1] for prompt, answer in answers], pad_id)
    y = pad([[*[IGNORE] * (len(prompt) - 1), *answer] for prompt, answer in answers], IGNORE)
    told = [p.reference[side] for side in (0, 1) for p in pairs]
    return PairBatch(x, y, torch.tensor(told))


OBJECTIVE = Preference

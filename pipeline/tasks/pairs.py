"""Preference pairs made on-policy: the right answer to an instruction against the model's own wrong ones.

The model is asked each instruction once greedily and then by sampling, and the task's exact scorer tells which of
its answers are wrong; no judge, no second model.  A wrong answer is kept as the very ids that were drawn, so one that
was cut before its end has no end that the model never wrote.  With each pair come the log-probabilities of both answers
under that model: it is the reference of the tuning, and is never needed again.

Made once: the pairs lie beside the training's saved states, so a killed run goes on with the same ones.
For 6,757 instructions and a model of 3.5 M parameters one pass of answers takes about 20 s on two cores.

Rejected: answers that are right to the letter as the chosen ones only where the model drew them itself (they are the
same text as the instruction's output), and re-encoding a wrong answer's text (other tokens than the model's).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from gptcore import runtime
from gptcore.artifact import canonical_json
from gptcore.data import by_length
from gptcore.evaluate import evaluating
from gptcore.model import GPT
from gptcore.objectives.preference import Pair, answer_logps, pair_batch, preference_loss
from gptcore.preference_config import PreferenceLoss
from gptcore.prompt import example_ids
from gptcore.tokenizer import Tokenizer
from pipeline.tasks.answers import answer_ids, text_of
from pipeline.tasks.instructions import Instruction

FILE = "pairs.jsonl"
BATCH_PAIRS = 32


@dataclass(frozen=True)
class Made:
    """One pair, as a line of ``pairs.jsonl``."""

    split: str
    entry: int
    """Number of the instruction among those of its split that were asked."""
    kind: str
    right: str
    wrong: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    reference: tuple[float, float] = (0.0, 0.0)
    """log π_ref of the chosen and of the rejected answer, in nats."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Made":
        """From what ``asdict`` says of one, when it has been JSON."""
        chosen, rejected = fields["reference"]
        return cls(**{**fields, "reference": (chosen, rejected)})

    @property
    def pair(self) -> Pair:
        return Pair(self.prompt, self.chosen, self.rejected, self.reference)


@dataclass(frozen=True)
class Asking:
    """How the model is asked."""

    tries: int
    """Answers to each instruction: a greedy one, the others sampled."""
    temperature: float
    most: int
    """Pairs of one instruction, at most."""
    max_new_tokens: int
    seed: int
    dtype: str


def make(model: GPT, encoder: Tokenizer, entries: Mapping[str, Sequence[Instruction]], asking: Asking) -> list[Made]:
    """The pairs of each split, with the model's own log-probabilities; those beyond its context are left out."""
    context, made = model.config.context_length, list[Made]()
    for split in entries:  # each by itself, as `measured` does: other batches have other last bits
        of_split = _of_split(model, encoder, split, entries[split], asking)
        fitting = [m for m in of_split if len(m.prompt) + max(len(m.chosen), len(m.rejected)) - 1 <= context]
        told = logps(model, [m.pair for m in fitting], encoder.eot, asking.dtype)
        made += [replace(m, reference=reference) for m, reference in zip(fitting, told, strict=True)]
    return made


def logps(model: GPT, pairs: Sequence[Pair], pad_id: int, dtype: str) -> list[tuple[float, float]]:
    """log π in nats of the chosen and the rejected answer of each pair."""
    found = [(0.0, 0.0)] * len(pairs)
    rows = [[*p.prompt, *max(p.chosen, p.rejected, key=len)] for p in pairs]
    with evaluating(model), runtime.autocast(dtype):
        for indices in by_length(rows, BATCH_PAIRS):
            batch = pair_batch([pairs[i] for i in indices], pad_id)
            chosen, rejected = answer_logps(model, batch.x, batch.y).chunk(2)
            for i, right, wrong in zip(indices, chosen.tolist(), rejected.tolist(), strict=True):
                found[i] = right, wrong
    return found


def measured(model: GPT, pairs: Sequence[Pair], pad_id: int, form: PreferenceLoss, dtype: str) -> dict[str, float]:
    """How ``model`` takes ``pairs``, on the mean: its loss, margins in nats, and shares of the pairs; of none, nothing.

    ``logp_margin`` is log π of the right answer less that of the wrong one, ``reward_margin`` β times what it has
    grown since the reference.
    """
    if not pairs:
        return {}
    logp = torch.tensor(logps(model, pairs, pad_id, dtype))  # (n, 2)
    grown = logp - torch.tensor([pair.reference for pair in pairs])  # (n, 2)
    lengths = torch.tensor([(len(pair.chosen), len(pair.rejected)) for pair in pairs])
    values = {
        "loss": preference_loss(form, grown.unbind(1), lengths.unbind(1)),
        "logp_margin": logp[:, 0] - logp[:, 1],
        "right_likelier": (logp[:, 0] > logp[:, 1]).float(),
        "reward_margin": form.beta * (grown[:, 0] - grown[:, 1]),
        "reward_accuracy": (grown[:, 0] > grown[:, 1]).float(),
    }
    return {name: round(value.double().mean().item(), 6) for name, value in values.items()}


def lines_of(pairs: Sequence[Made]) -> str:
    """``pairs.jsonl``: a pair a line."""
    return "".join(canonical_json(asdict(pair)) + "\n" for pair in pairs)


def _of_split(model: GPT, encoder: Tokenizer, split: str, entries: Sequence[Instruction], asking: Asking) -> list[Made]:
    tries = [
        answer_ids(
            model,
            encoder,
            entries,
            asking.max_new_tokens,
            temperature=asking.temperature if number else 0.0,
            key=f"{asking.seed}/{split}/{number}",
        )
        for number in range(asking.tries)
    ]
    return [
        made
        for number, entry in enumerate(entries)
        for made in _of_entry(encoder, split, number, entry, [answers[number] for answers in tries])[: asking.most]
    ]


def _of_entry(
    encoder: Tokenizer, split: str, number: int, entry: Instruction, answers: Sequence[list[int]]
) -> list[Made]:
    """A pair for each different wrong text, in the order of the tries."""
    prompt, right = example_ids(encoder, entry.instruction, entry.input, entry.output, entry.history)
    texts: dict[str, list[int]] = {}
    for ids in answers:
        if not entry.is_answered_by(text := text_of(encoder, ids)):
            texts.setdefault(text, ids)
    return [Made(split, number, entry.kind, entry.output, text, prompt, right, ids) for text, ids in texts.items()]

"""What a model knows without tuning: zero- and few-shot prompting, scored by the likelihood of the answers.

A problem shows the model some solved examples (the *shots*), then a question, and asks which of a few candidate
answers it finds least surprising.  Nothing is generated, so a small model gets a fair score: it need not hit
the form of an answer, only prefer the right one (as in Brown et al., 2020, §2.4).

A prompt is end-of-text, the solved examples, the question.  The parts are encoded one by one, so an answer has
the same tokens wherever it stands.  Where a prompt is too long for the context, the longest texts give way
first, down to a length that all keep; then whole shots go; the answer is never cut.

The forward pass over a prompt is made once: its keys and values stay in a cache, and every candidate rewinds
the cache to the prompt's end.

Some answers are likely after any text, and a small model may then give one answer to all questions.  A *calibrated*
choice takes that off: an answer's score is log p(answer | prompt) − log p(answer | the same prompt with an empty text).
That is the contextual calibration of Zhao et al. (2021, "Calibrate before use") and the domain-conditional PMI of
Holtzman et al. (2021, "Surface form competition"), which choose the same answer.  It costs a second set of prompts;
those without shots are all alike and computed once.

160 prompts of 256 tokens with 4 candidates take 2 s of one core for a model of 3
layers of width 256.  Rejected: copying the cache for each candidate (8 labels are 8 times the memory, which
for GPT-2's context of 1,024 is gigabytes) and a full pass for each candidate (8 times the arithmetic).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from gptcore.data import by_length, pad
from gptcore.errors import ParameterError
from gptcore.kernels.cross_entropy import IGNORE, token_nats
from gptcore.model import GPT
from gptcore.model.attention import KVCache
from gptcore.runtime import autocast
from gptcore.tokenizer import Tokenizer
from pipeline.tasks.problems import Example, Problem

BETWEEN = "\n\n"
"""After each solved example."""
MIN_TEXT_TOKENS = 8
"""A text cut to fewer tokens says too little: rather one shot less."""


@dataclass(frozen=True)
class Solved:
    """What a model answers."""

    chosen: list[int]
    """Of each problem, the number of the candidate."""
    calibrated: list[int]
    """The same by calibrated scores; empty where nobody asked."""
    mean_shots: float
    """Solved examples that the prompts had room for, on average."""


def solve(
    model: GPT,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    shots: int,
    *,
    per_token: bool,
    calibrate: bool = False,
    context: int | None = None,
    batch_size: int = 16,
    dtype: str = "auto",
) -> Solved:
    """Of each problem the candidate with the fewest nats, or with ``per_token`` the fewest nats/token.

    A prompt with its answer has at most ``context`` tokens, all that the model can see if it is None.
    """
    answers = [[tokenizer.encode(candidate) for candidate in problem.candidates] for problem in problems]
    room = _room(context or model.config.context_length, answers)
    prompts = [build_prompt(tokenizer, problem, shots, room) for problem in problems]
    nats = answer_nats(model, [prompt.ids for prompt in prompts], answers, batch_size=batch_size, dtype=dtype)
    mean_shots = sum(prompt.shots for prompt in prompts) / len(prompts)
    chosen, calibrated = _least(nats, answers, per_token), []
    if calibrate:
        empty = [prompt.without_text for prompt in prompts]
        off = taken_off(nats, model, empty, answers, batch_size=batch_size, dtype=dtype)
        calibrated = _least(off, answers, per_token)
    return Solved(chosen, calibrated, mean_shots)


def taken_off(
    nats: Sequence[Sequence[float]],
    model: GPT,
    empty: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    *,
    batch_size: int = 16,
    dtype: str = "auto",
) -> list[list[float]]:
    """``nats`` less those of the same answers after the prompts ``empty``; equal prompts are computed once."""
    asked = [(tuple(ids), tuple(map(tuple, candidates))) for ids, candidates in zip(empty, answers, strict=True)]
    once = list(dict.fromkeys(asked))
    priors = answer_nats(model, [ids for ids, _ in once], [c for _, c in once], batch_size=batch_size, dtype=dtype)
    prior_of = dict(zip(once, priors, strict=True))
    return [
        [n - prior for n, prior in zip(row, prior_of[key], strict=True)] for row, key in zip(nats, asked, strict=True)
    ]


def _least(nats: Sequence[Sequence[float]], answers: Sequence[Sequence[Sequence[int]]], per_token: bool) -> list[int]:
    """Of each row the place of the smallest number, the first of equal ones."""
    chosen = []
    for row, candidates in zip(nats, answers, strict=True):
        costs = [n / len(ids) for n, ids in zip(row, candidates, strict=True)] if per_token else list(row)
        chosen.append(costs.index(min(costs)))
    return chosen


@dataclass(frozen=True)
class Prompt:
    ids: list[int]
    shots: int
    """Solved examples in it."""
    without_text: list[int]
    """The same with nothing in place of the text that is asked about."""


def build_prompt(tokenizer: Tokenizer, problem: Problem, shots: int, room: int) -> Prompt:
    """Up to ``shots`` solved examples and the question in at most ``room`` tokens."""
    shown = [(tokenizer.encode(shot.text), _after_text(tokenizer, shot)) for shot in problem.shots[:shots]]
    asked, cue = tokenizer.encode(problem.asked.text), tokenizer.encode(problem.asked.cue)
    while True:
        lengths = [*(len(text) for text, _ in shown), len(asked)]
        left = room - 1 - len(cue) - sum(len(whole) for _, whole in shown)
        longest = _longest(lengths, left)
        if not shown or sum(lengths) <= left or longest >= MIN_TEXT_TOKENS:
            break
        shown.pop()
    before = [token for text, whole in shown for token in text[:longest] + whole]
    full, empty = before + asked[:longest] + cue, before + cue
    last = slice(-(room - 1), None)  # a question too long even alone keeps its end
    return Prompt([tokenizer.eot, *full[last]], len(shown), [tokenizer.eot, *empty[last]])


def _longest(lengths: Sequence[int], room: int) -> int:
    """Tokens that a text may keep, so that together they fit into ``room``; not below 0."""
    room = max(0, room)
    for still, length in zip(range(len(lengths), 0, -1), sorted(lengths), strict=True):
        if length * still > room:
            return room // still
        room -= length
    return max(lengths)


def _after_text(tokenizer: Tokenizer, shot: Example) -> list[int]:
    return [token for part in (shot.cue, shot.answer, BETWEEN) for token in tokenizer.encode(part)]


@torch.inference_mode()
def answer_nats(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    *,
    batch_size: int = 16,
    dtype: str = "auto",
) -> list[list[float]]:
    """-ln p of each candidate answer after its prompt: ``result[i][j]`` is that of ``answers[i][j]``.

    Prompts have at least two tokens, answers at least one, and the longest prompt with the longest answer must
    fit into the context.
    """
    model.eval()
    nats: list[list[float]] = [[] for _ in prompts]
    for chunk in by_length(prompts, batch_size):
        with autocast(dtype):
            found = _batch_nats(model, [prompts[i] for i in chunk], [answers[i] for i in chunk])
        for i, row in zip(chunk, found.tolist(), strict=True):
            nats[i] = row[: len(answers[i])]
    return nats


def _batch_nats(model: GPT, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """Nats (B, most candidates); where a prompt has fewer candidates, 0."""
    device = model.token_embedding.weight.device
    ids, seen = _pad_left(prompts)  # (B, P) each
    last = ids.shape[1] - 1  # the last token of the prompt goes in with each answer: it predicts the first of it
    longest = max(len(answer) for candidates in answers for answer in candidates)
    seen = torch.cat([seen, torch.ones(len(ids), longest, dtype=torch.bool)], dim=1).to(device)  # (B, P + A)
    cache = KVCache(model.config, len(ids), last + longest, dtype=_cache_dtype(device), device=device)
    model.hidden(ids[:, :last].to(device), padding=seen[:, :last], cache=cache)
    columns = []
    for column in zip_longest(*answers, fillvalue=()):  # the first candidates of all prompts, the second, …
        cache.length = last
        targets = pad(column, IGNORE)  # (B, A)
        x = torch.cat([ids[:, last:], targets[:, :-1].clamp(min=0)], dim=1).to(device)
        logits = model(x, padding=seen[:, : last + x.shape[1]], cache=cache)  # (B, A, V)
        columns.append(token_nats(logits, targets.to(device)).double().sum(dim=1))
    return torch.stack(columns, dim=1)


def _pad_left(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids (B, T) padded on the left, and where they are real (B, T)."""
    seen = pad([[1] * len(row) for row in rows], 0).flip(1).bool()
    return pad([[*reversed(row)] for row in rows], 0).flip(1), seen


def _cache_dtype(device: torch.device) -> torch.dtype:
    """What the matrix products give: no conversion on the way into the cache and out of it."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if enabled else torch.float32


def _room(context: int, answers: Sequence[Sequence[Sequence[int]]]) -> int:
    """Tokens for a prompt beside the longest answer: one number for all, as batches share their width."""
    longest = max(len(answer) for candidates in answers for answer in candidates)
    if context - longest < 2:
        raise ParameterError(
            f"a context of {context} tokens (evaluate.context, or the model's own) is too short to prompt for answers "
            f"of up to {longest} tokens; expected at least {longest + 2}: shorten the answer, or take its task out of "
            "evaluate.tasks"
        )
    return context - longest

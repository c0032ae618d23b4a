"""The foundation, taught to follow instructions: loss on the response only.

Reads ``data/checkpoints/load_gpt2`` and ``data/instructions.jsonl``; writes a checkpoint, the curve and
the test answers.  Every test instruction is answered greedily by the tuned model and by the untuned one,
and beside them stands the answer of the most similar training instruction (TF-IDF): what looking up can
do.  Exact match and chrF (Popović, 2015) are given per task kind; where the model loses, the table shows
it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptcore import runtime
from gptcore.artifact import commit, sha256_file, write_json
from gptcore.data import Batch
from gptcore.errors import DataError
from gptcore.finetune import format_prompt, instruction_batch, instruction_example
from gptcore.generate import generate
from gptcore.gpt2 import load_gpt2, save_gpt2
from gptcore.losses import IGNORE, next_token_loss
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from gptcore.train import TrainConfig
from pipeline import training
from pipeline.artifacts import CHECKPOINT, as_plain, checkpoint_facts
from pipeline.baselines import chrf, nearest_answers
from pipeline.batching import LengthBatches
from pipeline.instruction_data import Instruction, read_instructions
from pipeline.tracking import Tracker

Example = tuple[list[int], list[int]]
"""Input ids and targets."""


@dataclass(frozen=True, kw_only=True)
class FinetuneInstructConfig(TrainConfig):
    """`gptcore.train.TrainConfig` and what the stage adds."""

    batch_examples: int
    """Examples per batch."""
    max_new_tokens: int
    """Longest answer at the evaluation."""
    eval_every: int
    """Steps between evaluations of the response loss on the validation entries."""
    save_every: int
    """Steps between saved training states."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value}: expected a whole number of at least 1"
            for name in ("batch_examples", "max_new_tokens", "eval_every", "save_every")
            if (value := getattr(self, name)) < 1
        ]
        if problems:
            raise ValueError("; ".join(problems))
        super().__post_init__()


def finetune_instruct(
    foundation: Path, instructions: Path, out: Path, curve: Path, cfg: FinetuneInstructConfig, tracker: Tracker
) -> dict[str, Any]:
    runtime.configure()
    foundation_facts = checkpoint_facts(foundation)
    inputs = {"foundation": foundation_facts.content_hash, "instructions": sha256_file(instructions)}
    encoder = Tokenizer.load(foundation)
    model = load_gpt2(foundation)
    train, val, test = (read_instructions(instructions, split) for split in ("train", "val", "test"))
    context = model.config.context_length
    train_rows, val_rows = _examples(encoder, train, context), _examples(encoder, val, context)
    untuned = answer(model, encoder, test, cfg.max_new_tokens)
    batches = LengthBatches([len(x) for x, _ in train_rows], cfg.batch_examples, cfg.seed)

    def batches_from(step: int) -> Iterator[Batch]:
        for indices in batches.starting_at(step * cfg.accumulation_steps):
            yield instruction_batch([train_rows[i] for i in indices], encoder.eot)

    trained = training.run(
        "finetune_instruct",
        model,
        batches_from,
        cfg,
        training.Cadence(cfg.eval_every, cfg.save_every),
        loss=response_loss,
        evaluate=lambda: {"val_loss": _mean_loss(model, val_rows, encoder.eot, cfg.dtype)},
        identity={"config": as_plain(cfg), "inputs": inputs},
        tracker=tracker,
    )
    tuned = answer(model, encoder, test, cfg.max_new_tokens)
    nearest = nearest_answers([_query(i) for i in train], [i.output for i in train], [_query(i) for i in test])
    training.write_curve(curve, trained.curve)
    metrics = {
        "response_nats_per_token": round(
            _mean_loss(model, _examples(encoder, test, context), encoder.eot, cfg.dtype), 4
        ),
        "val_loss": round(trained.last("val_loss"), 6),
        "train_loss": round(trained.mean_loss(), 6),
        "test_entries": len(test),
        **_scores(test, {"tuned": tuned, "untuned": untuned, "nearest": nearest}),
    }
    card = {
        "stage": "finetune_instruct",
        "finetune_instruct": as_plain(cfg),
        "sources": foundation_facts.config.get("sources", {}),
        "metrics": {name: value for name, value in metrics.items() if name != "kinds"},
    }
    with commit(out, kind=CHECKPOINT, config=card, inputs=inputs) as draft:
        save_gpt2(model, draft, encoder)
        write_json(draft / "answers.json", _answers(test, tuned))
    return metrics


def response_loss(model: GPT, batch: Batch) -> Tensor:
    """Cross-entropy of the responses' tokens; the head never sees the prompts' positions."""
    x, y = batch
    counted = y != IGNORE
    return next_token_loss(model.hidden(x)[counted], model.head.weight, y[counted])


def answer(model: GPT, encoder: Tokenizer, entries: Sequence[Instruction], max_new_tokens: int) -> list[str]:
    """The model's greedy answers, in batches of similar length padded on the left."""
    prompts = [encoder.encode(format_prompt(e.instruction, e.input)) for e in entries]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), 64):
        chunk = order[start : start + 64]
        width = max(len(prompts[i]) for i in chunk)
        ids = torch.tensor([[encoder.eot] * (width - len(prompts[i])) + prompts[i] for i in chunk])
        real = torch.tensor([[False] * (width - len(prompts[i])) + [True] * len(prompts[i]) for i in chunk])
        new = generate(model, ids, max_new_tokens, stop=encoder.eot, padding=real)[:, width:].tolist()
        for i, row in zip(chunk, new, strict=True):
            answers[i] = encoder.decode(row[: row.index(encoder.eot)] if encoder.eot in row else row).strip()
    return answers


def _examples(encoder: Tokenizer, entries: Sequence[Instruction], context: int) -> list[Example]:
    """Encoded entries, cut to the context."""
    rows = [instruction_example(encoder, e.instruction, e.input, e.output) for e in entries]
    return [(x[:context], y[:context]) for x, y in rows]


@torch.inference_mode()
def _mean_loss(model: GPT, rows: Sequence[Example], pad_id: int, dtype: str) -> float:
    """Nats per response token."""
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    ordered = sorted(rows, key=lambda row: len(row[0]))
    for start in range(0, len(ordered), 64):
        batch = instruction_batch(ordered[start : start + 64], pad_id)
        tokens = int((batch[1] != IGNORE).sum())
        with runtime.autocast(dtype):
            total += response_loss(model, batch).item() * tokens
        count += tokens
    model.train(was_training)
    if not count:
        raise DataError("instructions: every entry is longer than the foundation's context; shorten the prompts")
    return total / count


def _query(entry: Instruction) -> str:
    return f"{entry.instruction} {entry.input}"


def _scores(test: Sequence[Instruction], answers: dict[str, list[str]]) -> dict[str, Any]:
    """Exact match and chrF of the three, over all entries and per kind."""
    references = [e.output for e in test]
    overall = {name: _score(given, references) for name, given in answers.items()}
    kinds: dict[str, dict[str, Any]] = {}
    for kind in sorted({e.kind for e in test}):
        of_kind = [i for i, e in enumerate(test) if e.kind == kind]
        expected = [references[i] for i in of_kind]
        row: dict[str, Any] = {"entries": len(of_kind)}
        for name, given in answers.items():
            prefix = "" if name == "tuned" else f"{name}_"
            row |= {prefix + key: value for key, value in _score([given[i] for i in of_kind], expected).items()}
        kinds[kind] = row
    above = sum(
        row["exact_match"] > max(row["nearest_exact_match"], row["untuned_exact_match"]) for row in kinds.values()
    )
    return {
        **overall["tuned"],
        "untuned": overall["untuned"],
        "nearest": overall["nearest"],
        "kinds_total": len(kinds),
        "kinds_above_nearest": above,
        "kinds": kinds,
    }


def _score(given: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    hits = sum(g == e for g, e in zip(given, expected, strict=True))
    return {"exact_match": round(hits / len(expected), 4), "chrf": round(chrf(given, expected), 2)}


def _answers(test: Sequence[Instruction], answers: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "kind": e.kind,
            "instruction": e.instruction,
            "input": e.input,
            "expected": e.output,
            "answer": a,
            "correct": a == e.output,
        }
        for e, a in zip(test, answers, strict=True)
    ]

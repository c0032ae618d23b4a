"""The model that follows instructions, taught to prefer right answers to its own wrong ones (DPO).

Reads ``data/checkpoints/finetune_instruct`` and ``data/instructions.jsonl``; writes a checkpoint with its pairs, the
curve and the test answers.  The model is asked training instructions, greedily and by sampling; each wrong answer makes
a pair with the right one (`pipeline.tasks.pairs`).  The step that answers most validation instructions right is
kept, among equals the one with the lowest loss on their pairs; step 0, the model as it came, is one of them.

Reported on test, before and after: exact match by kind; of pairs made of the test instructions in the same way, the
margin of the log-probabilities, right less wrong; and what got worse: kinds, single answers, the loss of the right
answers.  A model without a wrong answer has nothing to be taught: it is passed on as it is, and the view says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gptcore import runtime
from gptcore.adapters import peft_layout
from gptcore.adapters.lora import attach, check
from gptcore.artifact import write_json
from gptcore.formats.directory import save_model
from gptcore.model import GPT
from gptcore.objectives.preference import Preference
from gptcore.tokenizer import Tokenizer
from pipeline.contract.stage import In, Out
from pipeline.resume import scratch
from pipeline.resume.once import once
from pipeline.settings.finetune_prefer import FinetunePreferConfig
from pipeline.store.artifact import file_hash
from pipeline.store.checkpoint import FOLLOWS_INSTRUCTIONS, Checkpoint
from pipeline.store.plain import as_plain
from pipeline.store.view import Block, Headline, Note, Outcome, Show, Table, Texts, View
from pipeline.tasks import pairs
from pipeline.tasks.answers import answer, by_kind, encoded, mean_loss
from pipeline.tasks.instructions import Instruction
from pipeline.tasks.problems import draw
from pipeline.tasks.sets import Task, TaskData
from pipeline.tasks.sets.instruction import TASK
from pipeline.tracking.tracker import Tracker
from pipeline.training import run as training
from pipeline.training.curve import shown, write_curve

NAME = __name__.rpartition(".")[2]
TITLE = "Preferences"
WORSE_SHOWN = 10
ABOUT = replace(
    FOLLOWS_INSTRUCTIONS,
    title="{} tuned to prefer right answers",
    summary="Answers short instructions in the prompt form it was tuned on, and was shown its own wrong answers.",
    tag="finetune-prefer",
    limitations=[
        *FOLLOWS_INSTRUCTIONS.limitations,
        "It prefers answers that are right to the letter; nobody asked what people prefer.",
    ],
)


def finetune_prefer(
    tuned: In, instructions: In, out: Out, curve: Out, cfg: FinetunePreferConfig, tracker: Tracker
) -> Outcome:
    runtime.configure()
    start, task = Checkpoint.open(tuned), TASK(TaskData(raw=Path(), instructions=instructions))
    inputs = {"tuned": start.content_hash, "instructions": file_hash(instructions)}
    identity = {"config": as_plain(cfg), "inputs": inputs}
    encoder, model = start.tokenizer, start.load_language_model()
    entries = {split: task.examples(split) for split in ("train", "val", "test")}
    entries["train"] = draw(entries["train"], cfg.asked, cfg.seed, NAME)
    check(model, cfg.adapter, f"{NAME}.adapter")
    made, before = _as_it_came(model, encoder, entries, cfg, identity)
    by_split = {split: [m for m in made if m.split == split] for split in entries}
    adapter = attach(model, cfg.adapter, cfg.seed, f"{NAME}.adapter")
    trained = training.Trained([], 0)
    if by_split["train"]:
        trained = _train(model, encoder, entries["val"], by_split, cfg, identity, tracker)
    adapter.merge()
    after = _measure(model, encoder, entries["test"], by_split["test"], cfg) if trained.chosen else before
    write_curve(curve, trained.curve)
    metrics = {
        "pairs": {split: len(of_split) for split, of_split in by_split.items()},
        "asked": len(entries["train"]),
        "chosen_step": trained.chosen,
        "test_entries": len(entries["test"]),
        **_compared(task, entries["test"], before, after),
    }
    card = {
        "stage": NAME,
        "about": as_plain(ABOUT),
        NAME: as_plain(cfg),
        "sources": start.sources,
        "metrics": {name: value for name, value in metrics.items() if name != "kinds"},
    }
    answers = _answers(entries["test"], before, after)
    with Checkpoint.create(out, card, inputs) as draft:
        save_model(model, draft, encoder)
        peft_layout.save(adapter, draft / "adapter")
        (draft / pairs.FILE).write_text(pairs.lines_of(made), encoding="utf-8")
        write_json(draft / "answers.json", answers)
    return Outcome(metrics, _view(metrics, answers, curve), [curve, out / "answers.json"])


def _as_it_came(
    model: GPT,
    encoder: Tokenizer,
    entries: Mapping[str, Sequence[Instruction]],
    cfg: FinetunePreferConfig,
    identity: Mapping[str, Any],
) -> tuple[list[pairs.Made], "Measured"]:
    """The pairs of all splits and the measures before tuning: found by the first run of this identity, then kept."""
    asking = pairs.Asking(cfg.tries, cfg.temperature, cfg.pairs_each, cfg.max_new_tokens, cfg.seed, cfg.dtype)
    with scratch.directory(__name__, identity) as room:
        found = once(room / "pairs", lambda: [asdict(m) for m in pairs.make(model, encoder, entries, asking)])
        made = [pairs.Made.of(fields) for fields in found]
        held_out = [m for m in made if m.split == "test"]
        before = once(room / "before", lambda: asdict(_measure(model, encoder, entries["test"], held_out, cfg)))
        if not any(m.split == "train" for m in made):
            scratch.finish(room)  # else the training does
    return made, Measured(**before)


def _train(
    model: GPT,
    encoder: Tokenizer,
    val: Sequence[Instruction],
    by_split: Mapping[str, Sequence[pairs.Made]],
    cfg: FinetunePreferConfig,
    identity: Mapping[str, Any],
    tracker: Tracker,
) -> training.Trained:
    train, held_out = by_split["train"], [m.pair for m in by_split["val"]]

    def evaluate() -> dict[str, float]:
        given = answer(model, encoder, val, cfg.max_new_tokens)
        hits = sum(e.is_answered_by(a) for a, e in zip(given, val, strict=True))
        told = pairs.measured(model, held_out, encoder.eot, cfg, cfg.dtype)
        return {"val_exact_match": hits / len(val), **({"val_loss": told["loss"]} if told else {})}

    return training.run(
        __name__,
        model,
        Preference([m.pair for m in train], cfg.batch_pairs, encoder.eot, cfg.seed, cfg),
        cfg,
        training.Cadence(cfg.eval_every, cfg.save_every),
        evaluate=evaluate,
        identity=identity,
        tracker=tracker,
        name_of=lambda row: (
            f"pair {row + 1} ({train[row].kind}: {train[row].right[:60]!r}, not {train[row].wrong[:60]!r})"
        ),
        best=lambda row: (row["val_exact_match"], -row.get("val_loss", 0.0)),
    )


# --- what came out ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """The model on the test instructions."""

    answers: Sequence[str]
    response_loss: float
    """Nats per token of the right answers."""
    pairs: Mapping[str, float]


def _measure(
    model: GPT,
    encoder: Tokenizer,
    test: Sequence[Instruction],
    held_out: Sequence[pairs.Made],
    cfg: FinetunePreferConfig,
) -> Measured:
    rows = encoded(encoder, test, model.config.context_length).rows
    return Measured(
        answer(model, encoder, test, cfg.max_new_tokens),
        mean_loss(model, rows, encoder.eot, cfg.dtype),
        pairs.measured(model, [m.pair for m in held_out], encoder.eot, cfg, cfg.dtype),
    )


def _compared(task: Task, test: Sequence[Instruction], before: Measured, after: Measured) -> dict[str, Any]:
    """What there is to say of the tuned model, and of the former one under ``before``; by kind in ``kinds``."""

    def said(measured: Measured) -> dict[str, Any]:
        scores = task.score(measured.answers, test)
        return {**scores, "response_nats_per_token": round(measured.response_loss, 4), "on_pairs": dict(measured.pairs)}

    right = [
        (e.is_answered_by(b), e.is_answered_by(a)) for b, a, e in zip(before.answers, after.answers, test, strict=True)
    ]
    kinds = {
        kind: {
            "entries": len(of_kind),
            "exact_match": round(sum(right[i][1] for i in of_kind) / len(of_kind), 4),
            "exact_match_before": round(sum(right[i][0] for i in of_kind) / len(of_kind), 4),
        }
        for kind, of_kind in by_kind(test)
    }
    return {
        **said(after),
        "before": said(before),
        "became_right": sum(after and not before for before, after in right),
        "became_wrong": sum(before and not after for before, after in right),
        "kinds_that_fell": [k for k, row in kinds.items() if row["exact_match"] < row["exact_match_before"]],
        "kinds": kinds,
    }


def _answers(test: Sequence[Instruction], before: Measured, after: Measured) -> list[dict[str, Any]]:
    return [
        {
            "kind": e.kind,
            "instruction": e.instruction,
            "input": e.input,
            "expected": e.output,
            "before": b,
            "answer": a,
            "correct": e.is_answered_by(a),
        }
        for e, b, a in zip(test, before.answers, after.answers, strict=True)
    ]


def _view(metrics: dict[str, Any], answers: list[dict[str, Any]], curve: Path) -> View:
    before = metrics["before"]
    result = Headline(
        "preferences",
        metrics["exact_match"],
        "exact",
        f"before {before['exact_match']:.1%}; {metrics['became_right']} answers became right, "
        f"{metrics['became_wrong']} wrong",
        f"Share of the {metrics['test_entries']:,} test instructions answered to the letter, after tuning on "
        f"{metrics['pairs']['train']:,} pairs of a right and a wrong answer.",
        "percent",
    )
    if not metrics["pairs"]["train"]:
        told = f"None of the answers to {metrics['asked']:,} training instructions was wrong: nothing was tuned."
        return View(TITLE, [result], [Note(told)])
    measured = {"val_exact_match": "share of validation entries", "val_loss": "nats"}
    blocks: list[Block] = [*shown(curve, measured, "nats"), *_tables(metrics), *_worse(metrics, answers)]
    return View(TITLE, [result], blocks)


def _tables(metrics: dict[str, Any]) -> list[Block]:
    """Before and after: of everything, and by kind, what fell the most first."""
    before = metrics["before"]
    rows = [
        ("answers right to the letter, %", 100 * before["exact_match"], 100 * metrics["exact_match"]),
        ("chrF", before["chrf"], metrics["chrf"]),
        (
            "loss of the right answers, nats/token",
            before["response_nats_per_token"],
            metrics["response_nats_per_token"],
        ),
        *(
            (words, before["on_pairs"].get(key), metrics["on_pairs"].get(key))
            for key, words in (
                ("logp_margin", "log-probability of the right answer less the wrong one's, nats"),
                ("right_likelier", "share of pairs whose right answer is likelier"),
                ("reward_margin", "margin of the rewards, nats (0 before, by definition)"),
                ("reward_accuracy", "share of pairs whose right answer gained more (0 before, by definition)"),
            )
        ),
    ]
    columns: list[tuple[str, Show]] = [("on test", "text"), ("before", "number"), ("after", "number")]
    by: list[tuple[str, Show]] = [("kind", "text"), ("entries", "number"), ("before", "percent"), ("after", "percent")]
    kinds = sorted(metrics["kinds"].items(), key=lambda item: item[1]["exact_match"] - item[1]["exact_match_before"])
    return [
        Table(f"Before and after {metrics['chosen_step']:,} steps", columns, rows),
        Table(
            "Answers that are right to the letter, before and after, what fell the most first",
            by,
            [[kind, row["entries"], row["exact_match_before"], row["exact_match"]] for kind, row in kinds],
        ),
    ]


def _worse(metrics: dict[str, Any], answers: list[dict[str, Any]]) -> list[Block]:
    lost = [a for a in answers if a["before"] == a["expected"] and not a["correct"]]
    some = [
        ([a["kind"], f"was right: {a['expected']}"], f"{a['instruction']} {a['input']}".strip(), a["answer"])
        for a in lost[:WORSE_SHOWN]
    ]
    fell = ", ".join(metrics["kinds_that_fell"]) or "none"
    told = Note(f"Kinds that fell: {fell}. Answers that were right and are wrong now: {len(lost)}.")
    return [told, *([Texts("What got worse", some)] if some else [])]

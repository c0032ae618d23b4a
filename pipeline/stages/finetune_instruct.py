"""The foundation, taught to follow instructions: loss on the response only.

Reads ``data/checkpoints/load_gpt2`` and ``data/instructions.jsonl``; writes a checkpoint, the curve and
the test answers.  Every test instruction is answered greedily by the tuned model and by the untuned one,
and beside them stands the answer of the most similar training instruction (TF-IDF): what looking up can
do.  Exact match and chrF (Popović, 2015) are given per task kind; where the model loses, the table shows
it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptcore import runtime
from gptcore.adapters import peft_layout
from gptcore.adapters.kept import kept
from gptcore.adapters.lora import attach
from gptcore.artifact import write_json
from gptcore.formats.directory import save_model
from gptcore.objectives.response import Response
from pipeline.contract.stage import In, Out
from pipeline.resume import scratch
from pipeline.resume.once import once
from pipeline.settings.finetune_instruct import FinetuneInstructConfig
from pipeline.store.artifact import file_hash
from pipeline.store.checkpoint import FOLLOWS_INSTRUCTIONS, Checkpoint
from pipeline.store.plain import as_plain
from pipeline.store.view import Headline, Outcome, Show, Table, Texts, View
from pipeline.tasks.answers import answer, by_kind, encoded, mean_loss
from pipeline.tasks.baselines.texts import nearest_answers
from pipeline.tasks.instructions import Instruction
from pipeline.tasks.sets import Task, TaskData
from pipeline.tasks.sets.instruction import TASK
from pipeline.tracking.tracker import Tracker
from pipeline.training import run as training
from pipeline.training.curve import shown, write_curve

NAME = __name__.rpartition(".")[2]
ANSWERS_PER_KIND = 2


def finetune_instruct(
    foundation: In, instructions: In, out: Out, curve: Out, cfg: FinetuneInstructConfig, tracker: Tracker
) -> Outcome:
    runtime.configure()
    start, task = Checkpoint.open(foundation), TASK(TaskData(raw=Path(), instructions=instructions))
    inputs = {"foundation": start.content_hash, "instructions": file_hash(instructions)}
    encoder, model = start.tokenizer, start.load_language_model()
    adapter = attach(model, cfg.adapter, cfg.seed, f"{NAME}.adapter")
    train, val, test = (task.examples(split) for split in ("train", "val", "test"))
    context = model.config.context_length
    to_learn, to_choose, to_report = (encoded(encoder, entries, context) for entries in (train, val, test))
    identity = {"config": as_plain(cfg), "inputs": inputs}
    with scratch.directory(__name__, identity) as room:
        untuned = once(room / "untuned", lambda: answer(model, encoder, test, cfg.max_new_tokens))
    objective = Response(to_learn.rows, cfg.batch_examples, encoder.eot, cfg.seed)
    trained = training.run(
        __name__,
        model,
        kept(objective, [x for x, _ in to_learn.rows], model, cfg.adapter, cfg.dtype, encoder.eot, f"{NAME}.adapter"),
        cfg,
        training.Cadence(cfg.eval_every, cfg.save_every),
        evaluate=lambda: {"val_loss": mean_loss(model, to_choose.rows, encoder.eot, cfg.dtype)},
        identity=identity,
        tracker=tracker,
        name_of=lambda row: _name(to_learn.owners[row], train),
    )
    adapter.merge()
    tuned = answer(model, encoder, test, cfg.max_new_tokens)
    nearest = nearest_answers([i.asked for i in train], [i.output for i in train], [i.asked for i in test])
    write_curve(curve, trained.curve)
    test_loss = mean_loss(model, to_report.rows, encoder.eot, cfg.dtype)
    metrics = {
        "response_nats_per_token": round(test_loss, 4),
        "val_loss": round(trained.last("val_loss"), 6),
        "train_loss": round(trained.mean_loss(), 6),
        "test_entries": len(test),
        "cut_at_context": to_learn.cut + to_choose.cut + to_report.cut,
        "left_out_beyond_context": to_learn.left_out + to_choose.left_out + to_report.left_out,
        **_scores(task, test, {"tuned": tuned, "untuned": untuned, "nearest": nearest}),
    }
    card = {
        "stage": NAME,
        "about": as_plain(FOLLOWS_INSTRUCTIONS),
        NAME: as_plain(cfg),
        "sources": start.sources,
        "metrics": {name: value for name, value in metrics.items() if name != "kinds"},
    }
    answers = _answers(test, tuned)
    with Checkpoint.create(out, card, inputs) as draft:
        save_model(model, draft, encoder)
        peft_layout.save(adapter, draft / "adapter")
        write_json(draft / "answers.json", answers)
    return Outcome(metrics, _view(metrics, answers, curve), [curve, out / "answers.json"])


def _name(number: int, train: Sequence[Instruction]) -> str:
    return f"training entry {number + 1} ({train[number].kind}: {train[number].asked[:60]!r})"


def _scores(task: Task, test: Sequence[Instruction], answers: dict[str, list[str]]) -> dict[str, Any]:
    """Exact match and chrF of the three, over all entries and per kind."""
    overall = {name: task.score(given, test) for name, given in answers.items()}
    kinds: dict[str, dict[str, Any]] = {}
    for kind, of_kind in by_kind(test):
        row: dict[str, Any] = {"entries": len(of_kind)}
        for name, given in answers.items():
            prefix = "" if name == "tuned" else f"{name}_"
            scored = task.score([given[i] for i in of_kind], [test[i] for i in of_kind])
            row |= {prefix + measure: value for measure, value in scored.items()}
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


def _answers(test: Sequence[Instruction], answers: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "kind": e.kind,
            "instruction": e.instruction,
            "input": e.input,
            "expected": e.output,
            "answer": a,
            "correct": e.is_answered_by(a),
            **({"history": list(e.history)} if e.history else {}),
        }
        for e, a in zip(test, answers, strict=True)
    ]


def _view(metrics: dict[str, Any], answers: list[dict[str, Any]], curve: Path) -> View:
    untuned, nearest = (metrics[name]["exact_match"] for name in ("untuned", "nearest"))
    result = Headline(
        "instructions",
        metrics["exact_match"],
        "exact",
        f"untuned {untuned:.1%}, nearest neighbour {nearest:.1%}; best of the three on "
        f"{metrics['kinds_above_nearest']} of {metrics['kinds_total']} kinds",
        f"Share of the {metrics['test_entries']:,} test instructions answered to the letter; "
        f"chrF {metrics['chrf']:.1f}.",
        "percent",
    )
    columns: list[tuple[str, Show]] = [
        ("kind", "text"),
        ("entries", "number"),
        ("exact", "percent"),
        ("chrF", "number"),
        ("nearest neighbour", "percent"),
        ("untuned", "percent"),
    ]
    keys = ("entries", "exact_match", "chrf", "nearest_exact_match", "untuned_exact_match")
    ordered = sorted(metrics["kinds"].items(), key=lambda item: (-item[1]["exact_match"], item[0]))
    kinds = Table(
        "Answers that are right to the letter, by kind of task",
        columns,
        [[kind, *(scores[key] for key in keys)] for kind, scores in ordered],
    )
    some = [
        ([a["kind"], "right" if a["correct"] else f"wrong: {a['expected']}"], _query_of(a), a["answer"])
        for a in _some_of_each_kind(answers)
    ]
    curves = shown(curve, {"val_loss": "nats/response token"}, "nats/response token")
    return View("Instructions", [result], [*curves, kinds, Texts("Some answers", some, folded=True)])


def _query_of(answer: dict[str, Any]) -> str:
    return f"{answer['instruction']} {answer['input']}".strip()


def _some_of_each_kind(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few of each kind, a right and a wrong one first where there are both."""
    chosen = []
    for kind in sorted({a["kind"] for a in answers}):
        right, wrong = (
            [a for a in answers if a["kind"] == kind and a["correct"] is wanted] for wanted in (True, False)
        )
        chosen += [*right[:1], *wrong[:1], *right[1:], *wrong[1:]][:ANSWERS_PER_KIND]
    return chosen

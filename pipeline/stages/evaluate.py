"""How good the models are, on text they have not seen and on tasks they were not tuned for.

Two models are measured side by side: the one trained here and the one loaded as the foundation of
fine-tuning.  By default they are the same; then everything is computed once and reported for both.

    held-out text   bits/byte of the test documents, beside n-gram models and compressors on the same bytes
    samples         what a model writes after some prompts
    prompting       accuracy with 0, 1, … solved examples in the prompt (`prompting.py`); with ``calibrate`` also
                    macro-F1, before and after the answers' likelihood without a text is taken off

The text is decoded from ``data/tokens``, checked against each document's sha256 and encoded anew with each
model's own vocabulary: bits/byte compares models of different vocabularies only on the same bytes.

Samples are computed in float32, one by one, each from a seed of its own: a prompt added or removed leaves
the others as they are.  With the default parameters the stage takes 15 s of one core, with a foundation of 135M
parameters minutes: a killed run goes on after what it had measured.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gptcore import runtime
from gptcore.artifact import sha256_text, write_json
from gptcore.errors import DataError, ParameterError
from gptcore.inference.generate import generate
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from pipeline.contract.stage import In, Out
from pipeline.evaluation import held_out, prompted
from pipeline.evaluation.prompted import Asked
from pipeline.evaluation.shown import draw_bars, markdown, view
from pipeline.resume import scratch
from pipeline.resume.once import once
from pipeline.settings.evaluate import EvaluateConfig
from pipeline.store.artifact import content_hash, file_hash
from pipeline.store.checkpoint import Checkpoint
from pipeline.store.outputs import Evaluation
from pipeline.store.plain import as_plain, write_csv
from pipeline.store.tokens import Tokens
from pipeline.store.view import Outcome
from pipeline.store.vocabulary import Vocabulary
from pipeline.tasks import prompting
from pipeline.tasks.sets import TASKS, Amount, TaskData
from pipeline.tracking.progress import measuring
from pipeline.tracking.tracker import Tracker

NAME = __name__.rpartition(".")[2]


@dataclass(frozen=True)
class Contender:
    """A model under every name that it has in the results."""

    names: tuple[str, ...]
    model: GPT
    tokenizer: Tokenizer
    context: int
    """Tokens that it sees at once."""

    def __str__(self) -> str:
        return " and ".join(self.names)


def evaluate(
    pretrained: In,
    loaded: In,
    tokens: In,
    tokenizer: In,
    raw: In,
    instructions: In,
    out: Out,
    cfg: EvaluateConfig,
    tracker: Tracker,
) -> Outcome:
    runtime.configure()
    tasks = _tasks(TaskData(raw, instructions), cfg)
    text, vocabulary = Tokens.open(tokens), Vocabulary.open(tokenizer).tokenizer
    train, test = held_out.read(text, vocabulary, "train"), held_out.read(text, vocabulary, "test")
    models = {"pretrained": Checkpoint.open(pretrained), "loaded": Checkpoint.open(loaded)}
    contenders = _contenders(models, cfg)
    others = {"tokens": tokens, "tokenizer": tokenizer, "raw": raw}
    inputs = {name: model.content_hash for name, model in models.items()}
    inputs |= {name: content_hash(path) for name, path in others.items()} | {"instructions": file_hash(instructions)}

    with (
        scratch.directory(__name__, {"config": as_plain(cfg), "inputs": inputs}) as room,
        measuring(NAME, 1 + len(contenders) * _measurements(tasks, cfg)) as begin,
    ):
        measured = Measuring(room, begin)
        baselines = measured(
            "n-grams and compressors", lambda: held_out.compressors(train, test) | held_out.ngrams(train, test)
        )
        language: dict[str, dict[str, Any]] = {}
        for contender in contenders:
            language |= dict.fromkeys(contender.names, _language(contender, test, cfg, measured))
        samples = [sample for contender in contenders for sample in _samples(contender, cfg, measured)]
        answers = [answer for contender in contenders for answer in _answers(contender, tasks, cfg, measured)]
        scratch.finish(room)

    with Evaluation.create(out, as_plain(cfg), inputs) as draft:
        bars = baselines | {name: scores["bits_per_byte"] for name, scores in language.items()}
        rows = [{"model": name, "bits_per_byte": bits} for name, bits in bars.items()]
        write_csv(draft / "baselines.csv", ["model", "bits_per_byte"], rows)
        draw_bars(draft / "bits_per_byte.png", bars)
        write_csv(draft / "prompting.csv", list(answers[0]), answers)
        write_json(draft / "samples.json", samples)
        (draft / "samples.md").write_text(markdown(samples, cfg.max_new_tokens, cfg.seed), encoding="utf-8")
    for name in ("bits_per_byte.png", "samples.md", "prompting.csv"):
        tracker.artifact(out / name, f"evaluation/{name}")
    metrics = {
        "test_bytes": len(test.content),
        "baselines": baselines,
        **language,
        "same_model": len(contenders) == 1,
        "prompting": {name: prompted.accuracies(name, asked, answers) for name, asked in tasks.items()},
    }
    if cfg.calibrate:
        metrics["calibration"] = dict(prompted.calibrated(tasks, answers))
    return Outcome(metrics, view(metrics, samples))


# --- what is measured, and on what ------------------------------------------------------------------------


def _contenders(models: Mapping[str, Checkpoint], cfg: EvaluateConfig) -> list[Contender]:
    """The different ones among the models, each under all its names."""
    found: dict[tuple[Any, ...], Contender] = {}
    for name, checkpoint in models.items():
        contender = _contender(name, checkpoint, cfg)
        key = (checkpoint.weights_hash, contender.model.config, contender.tokenizer.fingerprint)
        names = found[key].names if key in found else ()
        found[key] = replace(contender, names=(*names, name))
    return list(found.values())


def _contender(name: str, checkpoint: Checkpoint, cfg: EvaluateConfig) -> Contender:
    directory, model, tokenizer = checkpoint.path, checkpoint.load_language_model(), checkpoint.tokenizer
    if tokenizer.n_vocab > model.config.vocab_size:
        raise DataError(
            f"{directory}: expected a vocabulary of at most the model's {model.config.vocab_size} ids, found "
            f"{tokenizer.n_vocab}; run the stage that makes it again"
        )
    context = min(model.config.context_length, cfg.context or model.config.context_length)
    if cfg.stride > context:
        raise ParameterError(
            f"evaluate.stride = {cfg.stride}: above the {context} tokens that {directory} sees at once it would skip "
            "text; set it to at most that, or to 0 for half of them"
        )
    return Contender((name,), model, tokenizer, context)


def _tasks(data: TaskData, cfg: EvaluateConfig) -> dict[str, Asked]:
    amount = Amount(cfg.prompt_examples, cfg.prompt_examples_per_kind, max(cfg.shots), cfg.seed)
    made = {name: TASKS[name](data) for name in cfg.tasks}
    return {name: Asked.of(task, task.problems(amount), cfg.calibrate) for name, task in made.items()}


# --- the measurements -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measuring:
    """Finds out one thing after the other, says which, and keeps what it found for a run that goes on after a kill."""

    room: Path
    begin: Callable[[str], None]

    def __call__(self, what: str, find: Callable[[], Any]) -> Any:
        """What ``find`` returns: plain data, as JSON has it."""
        self.begin(what)
        return once(self.room / re.sub(r"\W+", "-", what), find)


def _measurements(tasks: Mapping[str, Asked], cfg: EvaluateConfig) -> int:
    """How many there are of a model: its bits/byte, its samples together, each task with each number of shots."""
    return 2 + len(tasks) * len(cfg.shots)


def _language(contender: Contender, test: held_out.HeldOut, cfg: EvaluateConfig, measured: Measuring) -> dict[str, Any]:
    return measured(
        f"bits/byte of {contender}",
        lambda: held_out.language(
            contender.model,
            contender.tokenizer,
            test,
            context=contender.context,
            stride=cfg.stride,
            batch_windows=cfg.batch_windows,
        ),
    )


def _samples(contender: Contender, cfg: EvaluateConfig, measured: Measuring) -> list[dict[str, Any]]:
    return measured(
        f"samples of {contender}",
        lambda: [
            {"models": contender.names, "prompt": prompt, "temperature": temperature, "text": text}
            for prompt in cfg.prompts
            for temperature in cfg.temperatures
            for text in [_continuation(contender, prompt, temperature, cfg)]
        ],
    )


def _continuation(contender: Contender, prompt: str, temperature: float, cfg: EvaluateConfig) -> str:
    tokenizer = contender.tokenizer
    ids = torch.tensor([[tokenizer.eot, *tokenizer.encode(prompt)]])
    seed = int(sha256_text(f"{cfg.seed}/{prompt}")[:8], 16)  # one seed for all makes their ends alike
    written = generate(
        contender.model, ids, cfg.max_new_tokens, temperature=temperature, stop=tokenizer.stop, seed=seed
    )
    new = written[0, ids.shape[1] :].tolist()
    return tokenizer.decode(filter(tokenizer.has_text, new))


def _answers(
    contender: Contender, tasks: Mapping[str, Asked], cfg: EvaluateConfig, measured: Measuring
) -> Iterator[dict[str, Any]]:
    """A row a task, number of shots and name of the model."""
    for task_name, asked in tasks.items():
        for shots in cfg.shots:
            what = f"{task_name} by {contender}, {shots} examples shown"
            measures = measured(what, partial(_measures, contender, asked, shots, cfg))
            for name in contender.names:
                yield {"task": task_name, "model": name, "shots": shots, **measures}


def _measures(contender: Contender, asked: Asked, shots: int, cfg: EvaluateConfig) -> dict[str, Any]:
    solved = prompting.solve(
        contender.model,
        contender.tokenizer,
        asked.problems,
        shots,
        per_token=asked.task.per_token,
        calibrate=asked.calibrate,
        context=contender.context,
        batch_size=cfg.batch_windows,
    )
    return asked.row(solved, extended=cfg.calibrate)

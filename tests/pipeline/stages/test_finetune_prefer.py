"""Preference tuning of a tiny model: pairs of its own mistakes, a choice on validation, what got better and worse."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from gptcore import artifact
from gptcore.adapters.config import AdapterConfig
from gptcore.config import GPTConfig
from gptcore.errors import ParameterError
from gptcore.formats.directory import load_model, save_model
from gptcore.model import GPT
from gptcore.prompt import example_ids, prompt_ids
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.settings.export import ExportConfig
from pipeline.settings.finetune_instruct import FinetuneInstructConfig
from pipeline.settings.finetune_prefer import FinetunePreferConfig
from pipeline.stages.export import export
from pipeline.stages.finetune_instruct import finetune_instruct
from pipeline.stages.finetune_prefer import finetune_prefer
from pipeline.store.checkpoint import LANGUAGE_MODEL, Checkpoint
from pipeline.store.plain import as_plain
from pipeline.tasks import pairs
from pipeline.tracking.tracker import NullTracker, Tracker

ROOT = Path(__file__).resolve().parents[3]
WORDS = [
    a + b for a in ("red", "blue", "oak", "elm", "tin") for b in ("ly", "er", "ish", "en", "ing", "ness", "ful", "y")
]
CFG = FinetunePreferConfig(
    of=["instruct"], asked=24, tries=3, temperature=1.0, pairs_each=2, max_new_tokens=6, batch_pairs=8, beta=0.2,
    max_steps=8, learning_rate=0.001, weight_decay=0.0, eval_every=2, save_every=4, dtype="float32",
)  # fmt: skip
KILLED = """
import os, signal, sys, torch
from pathlib import Path
from pipeline.tracking.tracker import NullTracker
from tests.pipeline.stages import test_finetune_prefer as made
class Kills(NullTracker):
    def log(self, values, step):
        if step == 6:
            os.kill(os.getpid(), signal.SIGKILL)
made.tune(Path.cwd(), tracker=Kills())
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with instructions, and a model that was taught half of what it needs to follow them."""
    root = tmp_path_factory.mktemp("prefer")
    lines = [
        {"instruction": say, "input": word, "output": word[:3] if kind == "cut" else word, "kind": kind, "split": split}
        for number, word in enumerate(WORDS)
        for split in ["test" if number % 5 == 0 else "val" if number % 5 == 1 else "train"]
        for kind, say in (("cut", "Cut it."), ("say", "Say it."))
    ]
    (root / "instructions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = BytePairs.train([" ".join(WORDS) + " Cut it. Say it. ### Instruction: Input: Response:"], 300)
    torch.manual_seed(0)
    fields = {"context_length": 64, "d_model": 32, "n_layer": 2, "n_head": 2}
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root)
        with Checkpoint.create(root / "loaded", {"about": as_plain(LANGUAGE_MODEL)}) as draft:
            save_model(GPT(GPTConfig(vocab_size=words.n_vocab, **fields)), draft, words)
        cfg = FinetuneInstructConfig(
            max_steps=150, batch_examples=8, eval_every=150, save_every=150, max_new_tokens=6, dtype="float32",
            learning_rate=0.01,
        )  # fmt: skip
        finetune_instruct(
            root / "loaded", root / "instructions.jsonl", root / "tuned", root / "instruct.csv", cfg, NullTracker()
        )
    return root


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(prepared, tmp_path / "project")
    settle(monkeypatch, tmp_path / "project")
    return tmp_path / "project"


def settle(patch: pytest.MonkeyPatch, root: Path) -> None:
    patch.chdir(root)
    for name, value in (("DVC_ROOT", str(root)), ("GPTCORE_TRACKING", "off"), ("GPTCORE_THREADS", "1")):
        patch.setenv(name, value)


def tune(root: Path, cfg: FinetunePreferConfig = CFG, tracker: Tracker | None = None, out: str = "preferred") -> Any:
    files = (root / "tuned", root / "instructions.jsonl", root / out, root / "prefer.csv")
    return finetune_prefer(*files, cfg, tracker or NullTracker())


def pairs_of(root: Path, out: str = "preferred") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / out / "pairs.jsonl").read_text().splitlines()]


def lines_of(root: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (root / "instructions.jsonl").read_text().splitlines()]


def test_the_pairs_are_right_answers_against_the_model_s_own_wrong_ones(project: Path) -> None:
    tune(project)
    tuned, words = load_model(project / "tuned"), Tokenizer.load(project / "tuned")
    found = pairs_of(project)
    told = {(line["kind"], line["output"]) for line in lines_of(project)}
    assert len(found) > 30
    greedy = 0
    for pair in found:
        assert (pair["kind"], pair["right"]) in told
        assert pair["wrong"] != pair["right"]
        assert pair["chosen"] == example_ids(words, "", "", pair["right"])[1]
        said = pair["rejected"][: -1 if pair["rejected"][-1] == words.stop else None]
        assert words.decode(said).strip() == pair["wrong"]
        assert len(pair["rejected"]) == CFG.max_new_tokens or pair["rejected"][-1] == words.stop
        with torch.no_grad():
            for answer, logp in zip((pair["chosen"], pair["rejected"]), pair["reference"], strict=True):
                nats = tuned(torch.tensor([[*pair["prompt"], *answer]]))[0, len(pair["prompt"]) - 1 : -1].log_softmax(
                    -1
                )
                assert logp == pytest.approx(nats[range(len(answer)), answer].sum().item(), abs=1e-3)
                greedy += answer is pair["rejected"] and nats.argmax(-1).tolist() == answer
    per_entry = [(pair["split"], pair["entry"]) for pair in found]
    assert max(map(per_entry.count, per_entry)) == CFG.pairs_each
    assert 0 < greedy < len(found), "some are greedy answers, and not all"


def test_the_report_is_what_the_two_models_answer(project: Path) -> None:
    """By `transformers`, which reads both checkpoints and generates greedily."""
    outcome = tune(project)
    test = [line for line in lines_of(project) if line["split"] == "test"]
    right = {name: [theirs(project / name, line) == line["output"] for line in test] for name in ("tuned", "preferred")}
    metrics, before = outcome.metrics, outcome.metrics["before"]
    assert metrics["exact_match"] == pytest.approx(sum(right["preferred"]) / len(test), abs=1e-4)
    assert before["exact_match"] == pytest.approx(sum(right["tuned"]) / len(test), abs=1e-4)
    both = list(zip(right["tuned"], right["preferred"], strict=True))
    assert (metrics["became_right"], metrics["became_wrong"]) == (both.count((False, True)), both.count((True, False)))
    for kind, row in metrics["kinds"].items():
        mine = [i for i, line in enumerate(test) if line["kind"] == kind]
        assert row["exact_match"] == pytest.approx(sum(right["preferred"][i] for i in mine) / len(mine), abs=1e-4)
        assert (kind in metrics["kinds_that_fell"]) == (row["exact_match"] < row["exact_match_before"])
    assert before["on_pairs"]["reward_margin"] == 0.0
    grown = metrics["on_pairs"]["logp_margin"] - before["on_pairs"]["logp_margin"]
    assert metrics["on_pairs"]["reward_margin"] == pytest.approx(CFG.beta * grown, abs=1e-4)


def theirs(directory: Path, line: dict[str, str]) -> str:
    words = Tokenizer.load(directory)
    prompt = prompt_ids(words, line["instruction"], line["input"])
    model = AutoModelForCausalLM.from_pretrained(directory)
    ids = model.generate(torch.tensor([prompt]), max_new_tokens=CFG.max_new_tokens, do_sample=False)[0, len(prompt) :]
    new = ids.tolist()
    return words.decode(new[: new.index(words.stop)] if words.stop in new else new).strip()


def test_the_best_step_on_validation_is_kept_and_exported(project: Path) -> None:
    outcome = tune(project)
    header, *rows = [line.split(",") for line in (project / "prefer.csv").read_text().splitlines()]
    scored = [dict(zip(header, row, strict=True)) for row in rows if row[-1]]
    best = max(scored, key=lambda row: (float(row["val_exact_match"]), -float(row["val_loss"])))
    assert outcome.metrics["chosen_step"] == int(best["step"]) < CFG.max_steps
    val = [line for line in lines_of(project) if line["split"] == "val"]
    hits = sum(theirs(project / "preferred", line) == line["output"] for line in val)
    assert hits / len(val) == pytest.approx(float(best["val_exact_match"]))
    metrics = export(project / "preferred", project / "export", ExportConfig(parity_texts=8, parity_tokens=8)).metrics
    assert metrics["greedy_equal"]
    assert "prefer right answers" in (project / "export" / "README.md").read_text()


def test_thin_matrices_are_tuned_and_merged(project: Path) -> None:
    cfg = replace(CFG, adapter=AdapterConfig(rank=2), learning_rate=0.01, sft_weight=5.0, max_steps=16)
    assert tune(project, cfg).metrics["chosen_step"] > 0
    before, after = (dict(load_model(project / name).named_parameters()) for name in ("tuned", "preferred"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith(("qkv.weight", "proj.weight", "fc.weight"))}
    grown = after["blocks.1.mlp.proj.weight"] - before["blocks.1.mlp.proj.weight"]
    assert torch.linalg.matrix_rank(grown, rtol=1e-3) == 2
    assert (project / "preferred" / "adapter" / "adapter_model.safetensors").exists()


def test_a_step_that_makes_it_worse_is_not_taken(project: Path) -> None:
    outcome = tune(project, replace(CFG, learning_rate=1.0))
    assert outcome.metrics["chosen_step"] == 0
    assert outcome.metrics["exact_match"] == outcome.metrics["before"]["exact_match"]
    for name in ("model.safetensors", "config.json"):
        assert (project / "preferred" / name).read_bytes() == (project / "tuned" / name).read_bytes()


def test_killed_with_minus_9_it_goes_on_to_the_same_bytes(project: Path, prepared: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "DVC_ROOT": str(project), "GPTCORE_TRACKING": "off"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=project, env={**environment, "GPTCORE_THREADS": "1"}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    (room,) = (project / "data/.scratch/finetune_prefer").glob("*/pairs")
    assert (room.parent / "step-00000004").is_dir()
    made = (room / "found.json").stat()
    curve = (tune(project), (project / "prefer.csv").read_bytes())[1]
    assert (room / "found.json").stat() == made, "they were made anew"
    content = artifact.read_manifest(project / "preferred").content_hash
    shutil.rmtree(project / "data")
    tune(project)
    assert ((project / "prefer.csv").read_bytes(), artifact.read_manifest(project / "preferred").content_hash) == (
        curve,
        content,
    )


def test_an_adapter_that_does_not_fit_is_refused_before_anything_is_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "make", None)
    for wrong, words in ((AdapterConfig(rank=2, targets=["qproj"]), "targets"), (AdapterConfig(blocks=3), "blocks")):
        with pytest.raises(ParameterError, match=f"finetune_prefer.adapter.{words}"):
            tune(project, replace(CFG, adapter=wrong))


def test_before_tuning_the_rewards_are_nought(project: Path) -> None:
    before = tune(project).metrics["before"]["on_pairs"]
    assert (before["reward_margin"], before["reward_accuracy"]) == (0, 0)


def test_a_model_without_a_wrong_answer_is_passed_on(project: Path) -> None:
    """Greedy answers to what it already says: there is nothing to prefer, and no error."""
    said = theirs(project / "tuned", {"instruction": "Say it.", "input": "redly"})
    line = {"instruction": "Say it.", "input": "redly", "output": said, "kind": "say"}
    lines = [json.dumps({**line, "split": split}) for split in ("train", "val", "test")]
    (project / "instructions.jsonl").write_text("\n".join(lines))
    outcome = tune(project, replace(CFG, tries=1))
    assert outcome.metrics["pairs"] == {"train": 0, "val": 0, "test": 0}
    assert (outcome.metrics["chosen_step"], outcome.metrics["exact_match"]) == (0, 1.0)
    assert "nothing was tuned" in outcome.view.blocks[0].text  # type: ignore[union-attr]
    assert (project / "preferred/model.safetensors").read_bytes() == (project / "tuned/model.safetensors").read_bytes()
    assert (project / "prefer.csv").read_text() == "step,loss,learning_rate,grad_norm\n"
    assert pairs_of(project) == []
    assert len(list((project / "data/.scratch/finetune_prefer").glob("*/finished"))) == 1

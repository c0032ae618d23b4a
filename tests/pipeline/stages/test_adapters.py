"""Fine-tuning of a part of the model by the stages: what changes, what is written, and that a kill costs nothing."""

import json
import os
import shutil
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from gptcore import checkpoint
from gptcore.adapters import activations
from gptcore.adapters.config import AdapterConfig
from gptcore.adapters.peft_layout import load
from gptcore.artifact import open_verified
from gptcore.config import GPTConfig
from gptcore.errors import Interrupted, ParameterError
from gptcore.formats.directory import load_any, load_model, save_model
from gptcore.model import GPT, Classifier
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline import locks
from pipeline.contract import params
from pipeline.settings.finetune_classify import FinetuneClassifyConfig
from pipeline.settings.finetune_instruct import FinetuneInstructConfig
from pipeline.stages.export import ExportConfig, export
from pipeline.stages.finetune_classify import finetune_classify
from pipeline.stages.finetune_instruct import finetune_instruct
from pipeline.store.checkpoint import LANGUAGE_MODEL, Checkpoint
from pipeline.store.plain import as_plain
from pipeline.store.raw import Layout
from pipeline.tracking.tracker import NullTracker
from tests.raw_data import make_raw

ROOT = Path(__file__).resolve().parents[3]
SAME = {"dtype": "float32", "max_steps": 8, "learning_rate": 0.02, "eval_every": 4, "save_every": 4}
CONFIGS = {
    "finetune_classify": FinetuneClassifyConfig(batch_documents=4, max_tokens=12, val_fraction=0.2, **SAME),  # type: ignore[arg-type]
    "finetune_instruct": FinetuneInstructConfig(batch_examples=4, max_new_tokens=4, **SAME),  # type: ignore[arg-type]
}
PROOF = ExportConfig(parity_texts=2, parity_tokens=4)
LORA = AdapterConfig(rank=2, alpha=4.0, dropout=0.2)
LAST = AdapterConfig(blocks=1)
LLAMA = {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "tie_weights": False}
LABELLED: dict[str, Any] = {"role": "classification", "split": None}
WORDS = {"animal": ["cat", "dog", "cow", "hen"], "tool": ["saw", "axe", "rake", "file"]}


BOTH = pytest.mark.parametrize("project", [{}, LLAMA], ids=["gpt2", "llama"], indirect=True)
"""GPT-2 has one matrix for queries, keys and values, a tied head and a family in which we write; Llama has neither."""


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random foundation, texts with labels, and instructions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("GPTCORE_CACHE", str(tmp_path / "cache"))
    texts = [(label, f"the {a} and the {b}") for label, words in WORDS.items() for a in words for b in words]
    layout = Layout("jsonl", "text", "label", tuple(WORDS))
    make_raw(tmp_path, *((split, layout, lines(texts[i::2])) for i, split in enumerate(("train", "test"))), **LABELLED)
    questions = [
        {"instruction": "Say it.", "input": word, "output": word, "kind": kind, "split": split}
        for split in ("train", "val", "test")
        for kind, words in WORDS.items()
        for word in words
    ]
    (tmp_path / "instructions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    vocabulary = BytePairs.train([text for _, text in texts], 270)
    shape = {"vocab_size": vocabulary.n_vocab, "context_length": 96, "d_model": 16, "n_layer": 2, "n_head": 2}
    torch.manual_seed(3)
    model = GPT(GPTConfig(dropout=0.1, **{**shape, **getattr(request, "param", {})}))
    with Checkpoint.create(tmp_path / "base", {"stage": "load_gpt2", "about": as_plain(LANGUAGE_MODEL)}) as draft:
        save_model(model, draft, vocabulary)
    return tmp_path


def lines(texts: list[tuple[str, str]]) -> bytes:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for label, text in texts).encode()


def tune(project: Path, stage: str, adapter: AdapterConfig, out: str = "tuned", **changes: Any) -> Path:
    cfg: Any = replace(CONFIGS[stage], adapter=adapter, **changes)
    base, to, curve = project / "base", project / out, project / f"{out}.csv"
    if stage == "finetune_classify":
        finetune_classify(base, project / "raw", to, curve, project / f"{out}-confusion.csv", cfg, NullTracker())
    else:
        finetune_instruct(base, project / "instructions.jsonl", to, curve, cfg, NullTracker())
    return to


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@BOTH
@pytest.mark.parametrize("stage", CONFIGS)
def test_lora_is_written_merged_and_as_peft_loads_it(project: Path, stage: str) -> None:
    """The foundation with the adapter in `peft` is the checkpoint; the checkpoint is exported as any other."""
    import peft
    import transformers

    tuned = tune(project, stage, LORA)
    assert open_verified(tuned, "checkpoint").config[stage]["adapter"] == as_plain(LORA)
    merged, model = load_any(tuned), untuned(project, load_any(tuned))
    load(tuned / "adapter", model)
    ids = torch.arange(1, 60)[None]
    with torch.inference_mode():
        torch.testing.assert_close(merged(ids), model.eval()(ids), rtol=1e-4, atol=1e-5)
    proof = export(tuned, project / "export", PROOF).metrics
    assert proof["against"] == "transformers"
    assert f"| {stage}.adapter.rank | {LORA.rank} |" in (project / "export" / "README.md").read_text()
    export(project / "base", project / "foundation", PROOF)
    kind, more = ("CausalLM", dict[str, Any]())
    if merged.labels:
        kind, more = "SequenceClassification", {"num_labels": len(merged.labels), "pad_token_id": model.pad_id}
    foundation = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(project / "foundation", **more)
    theirs = peft.PeftModel.from_pretrained(foundation, tuned / "adapter").eval()
    with torch.inference_mode():
        torch.testing.assert_close(merged(ids), theirs(ids).logits, rtol=1e-4, atol=1e-5)


def untuned(project: Path, tuned: Any) -> Any:
    """The foundation as what it is tuned to be: of a classifier, with a head that the adapter brings anew."""
    base = load_model(project / "base")
    return Classifier(base, tuned.labels, tuned.pad_id) if isinstance(tuned, Classifier) else base


@pytest.mark.parametrize("stage", CONFIGS)
@pytest.mark.parametrize("adapter", [LORA, LAST], ids=["lora", "blocks"])
def test_only_what_is_asked_for_changes(project: Path, stage: str, adapter: AdapterConfig) -> None:
    tuned = tune(project, stage, adapter)
    before = dict(load_model(project / "base").named_parameters())
    body: GPT = load_any(tuned).body
    changed = {name for name, p in body.named_parameters() if not torch.equal(p, before[name])}
    changed -= {"head.weight"} if stage == "finetune_classify" else set()  # which it does not keep
    matrices = {name for name in before if name.startswith("blocks.") and before[name].ndim == 2}
    if adapter.rank:
        assert changed == matrices
    else:
        assert {name.split(".")[0] for name in changed} <= {"blocks", "ln_f", "head"}
        assert "blocks.1.mlp.fc.weight" in changed
        assert not any(name.startswith(("blocks.0.", "token_", "position_")) for name in changed)
        assert not (tuned / "adapter").exists()


@pytest.mark.parametrize("stage", CONFIGS)
@pytest.mark.parametrize("adapter", [LORA, LAST], ids=["lora", "blocks"])
def test_a_killed_tuning_goes_on_to_the_same_bytes(
    project: Path, stage: str, adapter: AdapterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last blocks on activations that were kept, of which one was damaged meanwhile."""
    whole = files(tune(project, stage, adapter, "whole"))
    assert (
        ("adapter/adapter_model.safetensors" in whole) is ("adapter/adapter_config.json" in whole) is (adapter is LORA)
    )
    assert not list((project / "data" / ".scratch").rglob("kept"))
    shutil.rmtree(project / "data" / ".scratch")
    real = checkpoint.save

    def killed(*arguments: Any, **more: Any) -> Path:
        monkeypatch.setattr(checkpoint, "save", real)
        assert real(*arguments, **more).name == "step-00000004"
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(project, stage, adapter, "cut")
    (state,) = (project / "data" / ".scratch" / stage).glob("*/step-*")
    assert (state / "weights.safetensors").stat().st_size < 4 * load_model(project / "base").n_params()
    if adapter is LAST:
        path = state.parent / "kept" / "activations"
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.warns(UserWarning, match="1 of 1 pieces are damaged") if adapter is LAST else nullcontext():
        again = files(tune(project, stage, adapter, "cut"))
    assert again == whole


@pytest.mark.parametrize("stage", CONFIGS)
def test_kept_activations_change_nothing_but_the_last_digits(project: Path, stage: str) -> None:
    without = replace(LAST, keep_activations=False)
    tuned = [tune(project, stage, adapter, f"keep-{adapter.keep_activations}") for adapter in (LAST, without)]
    recorded = [open_verified(each, "checkpoint").config[stage]["adapter"]["keep_activations"] for each in tuned]
    assert recorded == [True, False]
    models = [load_any(each) for each in tuned]
    for (name, kept), (_, computed) in zip(*(model.named_parameters() for model in models), strict=True):
        if name != "gpt.head.weight":  # of a classifier it is not stored
            torch.testing.assert_close(kept, computed, rtol=1e-3, atol=1e-4, msg=name)


def test_a_stop_while_activations_are_computed_costs_no_piece(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "PIECE_TOKENS", 40)
    whole = files(tune(project, "finetune_classify", LAST, "whole"))
    shutil.rmtree(project / "data" / ".scratch")
    write, written = activations.Activations.write, list[int]()

    def stopped(store: activations.Activations, piece: int, rows: torch.Tensor) -> None:
        write(store, piece, rows)
        written.append(piece)
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(activations.Activations, "write", stopped)
    with pytest.raises(Interrupted, match=r"finetune_classify: stopped after 2 of \d+ pieces; run it again to go on"):
        tune(project, "finetune_classify", LAST, "cut")
    assert files(tune(project, "finetune_classify", LAST, "cut")) == whole
    assert written == [0, 1, 2], "each once"


def test_another_training_that_is_done_frees_the_room(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what an interrupted one keeps, not its state; and not of one that is running, which holds its lock."""

    def killed(*arguments: Any, **more: Any) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(project, "finetune_classify", LAST, "cut")
    (kept,) = (project / "data" / ".scratch" / "finetune_classify").glob("*/kept")
    with locks.held(kept.parent / "lock"):
        tune(project, "finetune_classify", LAST, "other", seed=2)
        assert [path.name for path in sorted(kept.iterdir())] == ["activations", "sums"]
    tune(project, "finetune_classify", LAST, "another", seed=3)
    assert kept.parent.exists()
    assert not kept.exists()


def test_a_record_without_an_adapter_says_nothing_of_it(project: Path) -> None:
    """What is recorded of full tuning are the bytes of before there was a choice."""
    for cfg in CONFIGS.values():
        assert "adapter" not in as_plain(cfg)
        assert as_plain(replace(cfg, adapter=LORA))["adapter"]["rank"] == 2  # type: ignore[type-var]
    tuned = tune(project, "finetune_classify", AdapterConfig())
    assert b"adapter" not in (tuned / "manifest.json").read_bytes()
    assert not (tuned / "adapter").exists()


@pytest.mark.parametrize("stage", CONFIGS)
def test_what_the_foundation_has_not_is_one_message(project: Path, stage: str) -> None:
    with pytest.raises(ParameterError, match=rf"{stage}\.adapter\.blocks = 9: expected at most 2"):
        tune(project, stage, AdapterConfig(blocks=9))
    with pytest.raises(
        ParameterError, match=rf"{stage}\.adapter\.targets: expected all-linear, or some of .*'lm_head'"
    ):
        tune(project, stage, AdapterConfig(rank=2, targets=["lm_head"]))


def test_wrong_values_are_told_at_once(tmp_path: Path) -> None:
    document = params.read(ROOT / "params.yaml")
    document["finetune_classify"]["adapter"] = {"rank": "8", "alpha": 0, "targets": [], "block": 1}
    document["finetune_instruct"]["adapter"] = {"rank": -1, "dropout": 1.0}
    YAML(typ="safe").dump(document, tmp_path / "params.yaml")
    with pytest.raises(ParameterError) as told:
        params.check_all(tmp_path / "params.yaml")
    for words in (
        "finetune_classify.adapter.rank = '8': expected a whole number in 0 … 4,096",
        "finetune_classify.adapter.alpha = 0: expected a number above 0",
        "finetune_classify.adapter.targets = []: expected at least one",
        "finetune_classify.adapter.block: unknown parameter; expected rank, alpha",
        "finetune_instruct.adapter.rank = -1: expected a whole number",
        "finetune_instruct.adapter.dropout = 1.0: expected",
    ):
        assert words in str(told.value)

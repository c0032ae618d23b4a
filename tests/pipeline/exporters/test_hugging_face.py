"""Tiny checkpoints, exported and opened by `transformers` itself."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gptcore.__main__ import main as gptcore_command
from gptcore.data import pad
from gptcore.formats.directory import load_classifier, load_model
from gptcore.inference.generate import generate
from gptcore.prompt import format_prompt
from gptcore.tokenizer import END_OF_TEXT, Tokenizer
from pipeline.exporters.parity import sample_texts
from pipeline.exporters.transformers_reader import silent_transformers
from pipeline.stages.export import export
from tests.pipeline.exporters.checkpoints import CONFIG, CORPUS, LABELS, LLAMA, TEXTS, MakeCheckpoint, pipeline


@pytest.mark.parametrize(
    "shape",
    [{}, {"bias": False}, {"tie_weights": False}, LLAMA, {**LLAMA, "bias": True, "tie_weights": True}],
    ids=["gpt2", "no bias", "untied", "llama", "llama, biased and tied"],
)
def test_a_language_model_writes_the_same_text_in_a_transformers_pipeline(
    checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: Tokenizer, shape: dict[str, bool]
) -> None:
    source, out = checkpoint("pretrain", **shape), tmp_path / "export"
    metrics = export(source, out, CONFIG).metrics
    assert metrics["greedy_equal"] is True
    assert metrics["token_ids_equal"] is True
    assert metrics["max_logit_difference"] in ("< 1e-6", "< 1e-5", "< 1e-4")
    write = pipeline("text-generation", out)
    model = load_model(source)
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
    metrics = export(source, out, CONFIG).metrics
    assert metrics["labels_equal"] is True
    texts = [*TEXTS, "fox " * 100]  # the last is longer than the context
    rows = [tokenizer.encode(text)[:32] for text in texts]
    with torch.inference_mode():
        ours = load_classifier(source)(pad(rows, tokenizer.eot)).softmax(dim=-1)
    theirs = pipeline("text-classification", out)(texts, top_k=None, truncation=True, batch_size=4)
    for row, scores in zip(ours, theirs, strict=True):
        by_label = {score["label"]: score["score"] for score in scores}
        assert by_label == pytest.approx(dict(zip(LABELS, row.tolist(), strict=True)), abs=1e-5)


def test_texts_are_cut_where_tuning_cut_them(checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: Tokenizer) -> None:
    source, out = checkpoint("finetune_classify", max_tokens=20), tmp_path / "export"
    export(source, out, CONFIG)
    text = " ".join(TEXTS)
    ids = tokenizer.encode(text)
    assert len(ids) > 20
    with torch.inference_mode():
        ours = load_classifier(source)(torch.tensor([ids[:20]])).softmax(dim=-1)[0]
    theirs = pipeline("text-classification", out)(text, top_k=None, truncation=True)
    by_label = {score["label"]: score["score"] for score in theirs}
    assert by_label == pytest.approx(dict(zip(LABELS, ours.tolist(), strict=True)), abs=1e-5)


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

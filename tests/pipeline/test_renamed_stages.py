"""No behaviour outside the stages' own folder depends on a stage's name: all renamed, everything is as before."""

import json
import re
from pathlib import Path

import pytest

from pipeline.contract.stage import STAGES
from tests.clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def rename(clone: Clone) -> None:
    """Give every stage another name: its file and function, its section, its entry in dvc.yaml."""
    texts = {name: clone.root / name for name in ("dvc.yaml", "params.yaml", "profiles/tiny.yaml")}
    for stage in STAGES.names():
        file = clone.root / "pipeline/stages" / f"{stage}.py"
        code = re.sub(rf"^def {stage}\(", f"def my_{stage}(", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        file.with_name(f"my_{stage}.py").write_text(code, encoding="utf-8")
        file.unlink()
        for path in texts.values():
            path.write_text(_renamed(path, stage), encoding="utf-8")


def _renamed(path: Path, stage: str) -> str:
    text = path.read_text(encoding="utf-8")
    if path.name != "dvc.yaml":
        return re.sub(rf"^{stage}:", f"my_{stage}:", text, flags=re.MULTILINE)
    text = re.sub(rf"^  {stage}:$", f"  my_{stage}:", text, flags=re.MULTILINE)
    text = re.sub(rf"(params: \[(?:.*, )?){stage}(?=[,\]])", rf"\g<1>my_{stage}", text)
    text = text.replace(f"python -m pipeline {stage} ", f"python -m pipeline my_{stage} ")
    text = text.replace(f"pipeline/stages/{stage}.py", f"pipeline/stages/my_{stage}.py")
    text = text.replace(f"${{{stage}.", f"${{my_{stage}.")
    return re.sub(rf"data/(metrics|views)/{stage}(?=[.-])", rf"data/\1/my_{stage}", text)


def test_the_tiny_profile_runs_and_shows_the_same(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "project")
    rename(clone)
    printed = clone.repro("--profile", "tiny")
    assert "Traceback" not in printed
    for words in ("bits/byte", "macro-F1", "exact", "logit difference", "Once upon a time"):
        assert words in printed, words
    report = (clone.root / "data/report/index.html").read_text(encoding="utf-8")
    for stage in STAGES.names():
        views = [path for path in (clone.root / "data/views").glob("*.json") if path.stem.startswith(f"my_{stage}")]
        assert views, stage
        assert all(json.loads(path.read_text(encoding="utf-8"))["title"] in report for path in views)
        assert f"my_{stage}" in report
    card = (clone.root / "data/export/finetune_classify/README.md").read_text(encoding="utf-8")
    assert "GPT-2 text classifier" in card
    assert (clone.root / "data/export/finetune_instruct/chat_template.jinja").exists()
    clone.git("add", "-A")
    clone.git("commit", "-qm", "renamed and run")
    assert "Same bytes: all 14 stages" in clone.repro()

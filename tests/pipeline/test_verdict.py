"""The verdict on reproduction, on a real git repository."""

import json
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.verdict import verdict


def stage(out: str, md5: str, param: int = 1) -> dict:
    return {
        "cmd": f"run {out}",
        "params": {"params.yaml": {"a": param}},
        "deps": [{"path": "code.py", "md5": "c"}],
        "outs": [{"path": out, "md5": md5}],
    }


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "data/metrics").mkdir(parents=True)
    write(tmp_path, "class-a", windows=stage("data/windows", "w"), pretrain=stage("data/checkpoints/pretrain", "p"))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "record"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    return tmp_path


def write(root: Path, machine_class: str, **stages: dict) -> None:
    YAML(typ="safe").dump({"schema": "2.0", "stages": stages}, root / "dvc.lock")
    (root / "data/.provenance").mkdir(exist_ok=True)
    for path in ("data/metrics/pretrain.json", "data/.provenance/pretrain.json"):
        (root / path).write_text(json.dumps({"machine_class": machine_class}))


def test_equal_bytes(repo: Path) -> None:
    assert verdict(repo).kept
    assert verdict(repo).text.startswith("Same bytes: all 2 stages")


def test_another_class_may_differ_in_trained_outputs_only(repo: Path) -> None:
    write(repo, "class-b", windows=stage("data/windows", "w"), pretrain=stage("data/checkpoints/pretrain", "other"))
    found = verdict(repo)
    assert found.kept
    assert "trained outputs differ: machine class class-a (recorded) ≠ class-b" in found.text
    write(repo, "class-b", windows=stage("data/windows", "other"), pretrain=stage("data/checkpoints/pretrain", "p"))
    assert not verdict(repo).kept


def test_the_same_class_must_not_differ(repo: Path) -> None:
    write(repo, "class-a", windows=stage("data/windows", "w"), pretrain=stage("data/checkpoints/pretrain", "other"))
    found = verdict(repo)
    assert not found.kept
    assert "data/checkpoints/pretrain" in found.text


def test_changed_parameters_are_not_compared(repo: Path) -> None:
    write(
        repo, "class-a", windows=stage("data/windows", "w"), pretrain=stage("data/checkpoints/pretrain", "x", param=2)
    )
    found = verdict(repo)
    assert found.kept
    assert "their recipe changed since the last commit: pretrain" in found.text


def test_metrics_must_be_reproduced_too(repo: Path) -> None:
    write(repo, "class-a", windows=stage("data/windows", "w"), pretrain=stage("data/metrics/pretrain.json", "p"))
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "x"], cwd=repo, check=True)
    write(repo, "class-a", windows=stage("data/windows", "w"), pretrain=stage("data/metrics/pretrain.json", "q"))
    assert not verdict(repo).kept
    assert "data/metrics/pretrain.json" in verdict(repo).text

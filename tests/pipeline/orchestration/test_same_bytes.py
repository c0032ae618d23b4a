"""The verdict on reproduction, on a real git repository."""

import json
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.orchestration.same_bytes import verdict


def stage(out: str, md5: str, param: int = 1) -> dict:
    return {
        "cmd": f"run {out}",
        "params": {"params.yaml": {"a": param}},
        "deps": [{"path": "code.py", "md5": "c"}],
        "outs": [{"path": out, "md5": md5}],
    }


WIRING = {
    "windows": {"cmd": "run data/windows", "meta": {"every_machine": True, "prefect": {"retries": 2}}},
    "pretrain": {"cmd": "run data/checkpoints/pretrain"},
    "export": {"foreach": ["a"], "do": {"cmd": "run data/export/${item}", "meta": {"every_machine": True}}},
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "data/metrics").mkdir(parents=True)
    YAML(typ="safe").dump({"stages": WIRING}, tmp_path / "dvc.yaml")
    write(tmp_path, "class-a", windows=stage("data/windows", "w"), pretrain=stage("data/checkpoints/pretrain", "p"))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path)
    return tmp_path


def commit(root: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["add", "-A"], ["commit", "-qm", "record"]):
        subprocess.run([*git, *command], cwd=root, check=True)


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
    commit(repo)
    write(repo, "class-a", windows=stage("data/windows", "w"), pretrain=stage("data/metrics/pretrain.json", "q"))
    assert not verdict(repo).kept
    assert "data/metrics/pretrain.json" in verdict(repo).text


def test_a_stage_that_must_be_equal_everywhere_says_so_in_a_foreach_too(repo: Path) -> None:
    write(repo, "class-a", **{"export@a": stage("data/export/a", "e")})
    commit(repo)
    write(repo, "class-b", **{"export@a": stage("data/export/a", "other")})
    assert not verdict(repo).kept


def test_the_machine_class_is_found_in_whichever_metrics_state_one(repo: Path) -> None:
    (repo / "data/metrics/pretrain.json").unlink()
    (repo / "data/metrics/pages.json").write_text(json.dumps({"pages": 3}))
    (repo / "data/metrics/tune.json").write_text(json.dumps({"machine_class": "class-a"}))
    commit(repo)
    record = stage("data/checkpoints/pretrain", "other")
    (repo / "data/.provenance/pretrain.json").write_text(json.dumps({"machine_class": "class-b"}))
    YAML(typ="safe").dump(
        {"schema": "2.0", "stages": {"windows": stage("data/windows", "w"), "pretrain": record}}, repo / "dvc.lock"
    )
    assert "machine class class-a (recorded) ≠ class-b (here)" in verdict(repo).text

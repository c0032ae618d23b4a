"""The verdict on reproduction, on a real git repository with real files."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.orchestration.integrity.on_disk import Disk
from pipeline.orchestration.same_bytes import verdict


def stage(root: Path, out: str, content: str, param: int = 1) -> dict[str, Any]:
    """A stage that has written ``content``; what lies on disk is what dvc.lock says."""
    (root / out).parent.mkdir(parents=True, exist_ok=True)
    (root / out).write_text(content)
    return {
        "cmd": f"run {out}",
        "params": {"params.yaml": {"a": param}},
        "deps": [{"path": "code.py", "md5": "c"}],
        "outs": [{"path": out, "md5": Disk().md5(root / out)}],
    }


WIRING = {
    "windows": {"cmd": "run data/windows", "meta": {"every_machine": True, "prefect": {"retries": 2}}},
    "pretrain": {"cmd": "run data/checkpoints/pretrain"},
    "export": {"foreach": ["a"], "do": {"cmd": "run data/export/${item}", "meta": {"every_machine": True}}},
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    YAML(typ="safe").dump({"stages": WIRING}, tmp_path / "dvc.yaml")
    write(tmp_path, "class-a")
    (tmp_path / ".gitignore").write_text("/data/windows\n/data/checkpoints\n/data/.provenance\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path)
    return tmp_path


def commit(root: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["add", "-A"], ["commit", "-qm", "record"]):
        subprocess.run([*git, *command], cwd=root, check=True)


def write(root: Path, machine_class: str, windows: str = "w", pretrain: str = "p", param: int = 1, **more: Any) -> None:
    """What a run leaves."""
    stages = {
        "windows": stage(root, "data/windows", windows),
        "pretrain": stage(root, "data/checkpoints/pretrain", pretrain, param),
        **more,
    }
    YAML(typ="safe").dump({"schema": "2.0", "stages": stages}, root / "dvc.lock")
    wired = {name: {"cmd": "x"} for name in more if "@" not in name}
    YAML(typ="safe").dump({"stages": {**wired, **WIRING}}, root / "dvc.yaml")
    for path in ("data/metrics/pretrain.json", "data/.provenance/pretrain.json"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(json.dumps({"machine_class": machine_class}))


# --- what lies on disk ---


def flip(path: Path) -> None:
    """One bit, and the time of its last change stays."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_flipped_bit_is_no_same_bytes_whatever_the_clock_says(repo: Path) -> None:
    assert verdict(repo).kept
    flip(repo / "data/checkpoints/pretrain")
    found = verdict(repo)
    assert found.code == 65
    assert "data/checkpoints/pretrain: damaged: expected" in found.text
    assert "`python -m pipeline verify --repair`" in found.text
    assert "Same bytes" not in found.text
    flip(repo / "data/checkpoints/pretrain")
    assert verdict(repo).kept


def test_a_missing_out_is_told(repo: Path) -> None:
    (repo / "data/windows").unlink()
    found = verdict(repo)
    assert (found.code, found.kept) == (65, False)
    assert "data/windows: missing" in found.text


def test_damage_is_told_before_there_is_anything_to_compare_with(tmp_path: Path) -> None:
    write(tmp_path, "class-a")
    assert "Nothing to compare with yet" in verdict(tmp_path).text
    flip(tmp_path / "data/windows")
    assert verdict(tmp_path).code == 65


def test_of_a_directory_the_file_is_named_where_anything_tells(repo: Path) -> None:
    folder = repo / "data/tokens"
    for name in ("a", "b/ä"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    entry = {"cmd": "x", "outs": [{"path": "data/tokens", "md5": Disk().md5(folder)}]}
    write(repo, "class-a", tokens=entry)
    assert verdict(repo).code == 0
    listing = json.dumps(
        [{"md5": hashlib.md5((folder / n).read_bytes()).hexdigest(), "relpath": n} for n in ("a", "b/ä")]
    ).encode()
    oid = hashlib.md5(listing).hexdigest()
    assert entry["outs"][0]["md5"] == f"{oid}.dir"
    flip(folder / "b/ä")
    (folder / "stranger").touch()
    assert "data/tokens: damaged: expected md5" in verdict(repo).text
    obj = repo / ".dvc/cache/files/md5" / oid[:2] / f"{oid[2:]}.dir"
    obj.parent.mkdir(parents=True)
    obj.write_bytes(listing)
    (folder / "a").unlink()
    text = verdict(repo).text
    assert "data/tokens/a: missing" in text
    assert "data/tokens/b/ä: damaged" in text
    assert "data/tokens/stranger: a file that dvc.lock does not know" in text


def test_many_damaged_files_are_counted(repo: Path) -> None:
    write(repo, "class-a", **{f"s{i}": stage(repo, f"data/out{i}", "x") for i in range(12)})
    for i in range(12):
        flip(repo / f"data/out{i}")
    assert "and 4 more" in verdict(repo).text


def test_a_broken_lock_file_is_one_message(repo: Path) -> None:
    from gptcore.errors import DataError

    for broken in ("stages: [", "stages:\n  a: 3\n", "- 1\n", "stages:\n  a:\n    outs: [{md5: x}]\n", "\x00"):
        (repo / "dvc.lock").write_text(broken)
        with pytest.raises(DataError, match=r"^dvc\.lock: can't be read \("):
            verdict(repo)


# --- against the last commit ---


def test_equal_bytes(repo: Path) -> None:
    assert verdict(repo).kept
    assert verdict(repo).text.startswith("Same bytes: all 2 stages")


def test_another_class_may_differ_in_trained_outputs_only(repo: Path) -> None:
    write(repo, "class-b", pretrain="other")
    found = verdict(repo)
    assert found.kept
    assert "trained outputs differ: machine class class-a (recorded) ≠ class-b" in found.text
    write(repo, "class-b", windows="other")
    assert verdict(repo).code == 1


def test_the_same_class_must_not_differ(repo: Path) -> None:
    write(repo, "class-a", pretrain="other")
    found = verdict(repo)
    assert found.code == 1
    assert "data/checkpoints/pretrain" in found.text


def test_changed_parameters_are_not_compared(repo: Path) -> None:
    write(repo, "class-a", pretrain="x", param=2)
    found = verdict(repo)
    assert found.kept
    assert "their recipe changed since the last commit: pretrain" in found.text


def test_metrics_must_be_reproduced_too(repo: Path) -> None:
    write(repo, "class-a", numbers=stage(repo, "data/metrics/numbers.json", "1"))
    commit(repo)
    write(repo, "class-a", numbers=stage(repo, "data/metrics/numbers.json", "2"))
    assert not verdict(repo).kept
    assert "data/metrics/numbers.json" in verdict(repo).text


def test_a_stage_that_must_be_equal_everywhere_says_so_in_a_foreach_too(repo: Path) -> None:
    write(repo, "class-a", **{"export@a": stage(repo, "data/export/a", "e")})
    commit(repo)
    write(repo, "class-b", **{"export@a": stage(repo, "data/export/a", "other")})
    assert not verdict(repo).kept


def test_the_machine_class_is_found_in_whichever_metrics_state_one(repo: Path) -> None:
    (repo / "data/metrics/pretrain.json").unlink()
    (repo / "data/metrics/pages.json").write_text(json.dumps({"pages": 3}))
    (repo / "data/metrics/tune.json").write_text(json.dumps({"machine_class": "class-a"}))
    commit(repo)
    write(repo, "class-b", pretrain="other")
    assert "machine class class-a (recorded) ≠ class-b (here)" in verdict(repo).text


def test_what_a_dropped_stage_had_written_is_not_looked_for(repo: Path) -> None:
    """DVC never takes an entry out of dvc.lock."""
    write(repo, "class-a", dropped=stage(repo, "data/dropped", "x"), **{"export@gone": stage(repo, "data/gone", "x")})
    YAML(typ="safe").dump({"stages": WIRING}, repo / "dvc.yaml")
    for name in ("dropped", "gone"):
        (repo / "data" / name).unlink()
    assert verdict(repo).code == 0

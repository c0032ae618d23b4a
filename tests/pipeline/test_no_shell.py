"""No parameter reaches a shell: what looks like a command is a path like any other, and a space is a space."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.clone import BIN, ROOT, Clone
from tests.hub_server import save_tiny_gpt2

SOURCE = "  source: data/checkpoints/pretrain"


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "project")


def set_source(clone: Clone, source: str) -> None:
    path = clone.root / "params.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(SOURCE) == 1
    path.write_text(text.replace(SOURCE, f"  source: {json.dumps(source)}"), encoding="utf-8")


@pytest.mark.parametrize("source", ["m; touch X; true", "$(touch X)", "`touch X`", "m' && touch X '"])
def test_a_parameter_that_is_a_command_executes_nothing(clone: Clone, source: str) -> None:
    set_source(clone, source)
    printed = clone.repro("load_gpt2", code=64)
    assert printed.splitlines() == [
        f"error: load_gpt2.source = {source!r}: expected a path that is there or that a stage makes; found none; "
        "correct it in params.yaml"
    ]
    assert not (clone.root / "X").exists()
    clone.run("dvc", "repro", "load_gpt2", code=255)  # DVC alone refuses it in words of its own
    assert not (clone.root / "X").exists()


def test_a_name_with_control_characters_is_refused(clone: Clone) -> None:
    set_source(clone, "m\ntouch X")
    printed = clone.repro("load_gpt2", code=64)
    assert "load_gpt2.source = 'm\\ntouch X': expected a directory whose name is printable text" in printed
    clone.run("dvc", "repro", "load_gpt2", code=255)
    assert not (clone.root / "X").exists()


def test_a_directory_whose_name_is_a_command_is_loaded(clone: Clone) -> None:
    """The tiny model lies where a shell would start something, and DVC runs the stage on it."""
    name = "my model; touch X"
    save_tiny_gpt2(clone.root / name)
    set_source(clone, name)
    assert "Running stage 'load_gpt2'" in clone.run("dvc", "repro", "load_gpt2")
    assert not (clone.root / "X").exists()
    assert json.loads((clone.root / "data/metrics/load_gpt2.json").read_text())["greedy_equal"]
    clone.run("python", "-m", "pipeline", "load_gpt2", "--source", name, "--out", "elsewhere")
    assert (clone.root / "elsewhere" / "manifest.json").is_file()


def test_make_hands_its_words_on_as_they_are(tmp_path: Path) -> None:
    """The recipe is run with a `python` that prints its arguments."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("requirements.lock", "pyproject.toml", ".venv/bin/python", ".venv/.ready"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    (tmp_path / ".venv/bin/python").chmod(0o755)
    words = ["PROFILE=tiny'; touch X; $(HOME)", "TARGETS=windows a;touch${IFS}X"]
    made = subprocess.run(
        ["make", "-s", "repro", *words],
        cwd=tmp_path,
        env={"PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert made.stdout == "<-m><pipeline><repro><--profile><tiny'; touch X; $(HOME)><windows><a;touch${IFS}X>", (
        made.stderr
    )
    assert not (tmp_path / "X").exists()

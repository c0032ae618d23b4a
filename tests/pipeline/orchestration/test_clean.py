"""What ``clean`` deletes and, above all, what it never does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gptcore.errors import BusyError, ParameterError
from pipeline.orchestration import clean

DEAD = 2**22 + 1  # above the highest pid there can be


@pytest.fixture
def full(toy):
    """A project whose results are recorded, and with something on every shelf."""
    assert toy.dvc("repro").returncode == 0
    toy.run(["git", "add", "-A"])
    toy.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "made"])
    toy.knobs("left", value=7)
    assert toy.dvc("repro").returncode == 0  # tried, and given up
    toy.knobs("left", value=0)
    assert toy.dvc("repro").returncode == 0
    for name in (
        "data/.scratch/pretrain/0123456789abcdef/step-1/weights",
        "data/.scratch/stages/pretrain.lock",
        "data/.scratch/spool/undelivered.jsonl",
        "data/.scratch/kept-by-somebody/notes",
        f"data/metrics/.x.json.tmp-{DEAD}",
        f"data/metrics/.y.json.tmp-{os.getpid()}",
        f"data/.raw.old-{DEAD}/file",
        "data/.cache/downloads/abc",
        "data/metrics/x.json",
        "data/checkpoints/pretrain/model.safetensors",
        "data/own/private.txt",
        "mlflow.db",
        "mlflow.db-wal",
        "mlartifacts/1/run",
        ".prefect/prefect.db",
    ):
        (toy.root / name).parent.mkdir(parents=True, exist_ok=True)
        (toy.root / name).write_bytes(bytes(5000))
    return toy


def tree(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and ".git/" not in f"{p}/"}


GONE = {
    "states": {"data/.scratch/pretrain/0123456789abcdef/step-1/weights"},
    "drafts": {f"data/metrics/.x.json.tmp-{DEAD}", f"data/.raw.old-{DEAD}/file"},
    "downloads": {"data/.cache/downloads/abc"},
    "mlflow": {"mlflow.db", "mlflow.db-wal", "mlartifacts/1/run"},
    "prefect": {".prefect/prefect.db"},
}


@pytest.mark.parametrize("what", GONE)
def test_each_kind_frees_what_it_says_and_nothing_else(full, what):
    before = tree(full.root)
    assert clean.free(full.root, [what]).endswith(" MB freed")
    assert before - tree(full.root) == GONE[what]


def test_of_dvcs_cache_goes_only_what_nothing_names(full):
    cache = full.root / ".dvc" / "cache" / "files"
    before = tree(cache)
    assert "dvc  " in clean.show(full.root)
    assert tree(cache) == before, "showing deletes nothing"
    clean.free(full.root, ["dvc"])
    assert len(before - tree(cache)) == 2, "left.txt and both.txt with the value that was given up"
    for name in ("left.txt", "both.txt", "train_a.txt"):
        (full.root / name).unlink()
    assert full.dvc("checkout").returncode == 0, "what the commit names is all there"
    assert "up to date" in full.dvc("status").stdout


def test_a_cache_outside_the_project_is_nobodys_to_delete(full, tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "thesis.doc").write_text("mine")
    for place in (shared, full.root):
        monkeypatch.setenv("GPTCORE_CACHE", str(place))
        clean.free(full.root, ["downloads"])
    assert (shared / "thesis.doc").exists()
    assert (full.root / "dvc.yaml").exists()


@pytest.mark.parametrize("name", ["repro.lock", "stages/pretrain.lock", "ui/lock", "spool/feeder.lock"])
def test_it_refuses_while_anything_runs(tmp_path, monkeypatch, name):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    state = tmp_path / "data" / ".scratch" / "pretrain" / "0123456789abcdef" / "weights"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"w")
    lock = tmp_path / "data" / ".scratch" / name
    code = (
        "import sys; from pathlib import Path; from pipeline import locks\n"
        "with locks.held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        with pytest.raises(BusyError, match=f"{name} is held by process {running.pid}"):
            clean.free(tmp_path, ["states"])
        assert state.exists()
        running.communicate()
    clean.free(tmp_path, ["states"])
    assert not state.exists()


def test_an_unknown_kind_deletes_nothing(full):
    before = tree(full.root)
    with pytest.raises(ParameterError, match=r"everything: .*one of states, drafts, damaged, downloads, dvc, mlflow"):
        clean.free(full.root, ["states", "everything"])
    assert tree(full.root) == before

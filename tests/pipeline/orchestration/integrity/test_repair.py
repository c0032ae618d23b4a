"""Damage of every kind, on the tiny profile: told by the verdict and by ``verify``, mended by one command."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

KINDS = [
    "data/raw/grimm/grimm-tales.tab",
    "data/raw/manifest.json",
    "data/tokenizer/vocab.json",
    "data/tokens/train-00000.parquet",
    "data/windows/train.npy",
    "data/checkpoints/pretrain/model.safetensors",
    "data/checkpoints/finetune_classify/manifest.json",
    "data/evaluation/bits_per_byte.png",
    "data/export/pretrain/model.safetensors",
    "data/export/finetune_instruct/README.md",
    "data/metrics/tokenize.json",
    "data/plots/pretrain.csv",
    "data/views/evaluate.json",
]
"""A file of each kind that stages write."""
REPAIR = ("python", "-m", "pipeline", "verify", "--repair")


def flip(path: Path, at: float = 0.5) -> None:
    """One bit, ``at`` this part of the file; the time of its last change and its protection stay."""
    before, content = path.stat(), bytearray(path.read_bytes())
    path.chmod(0o644)
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cached(clone: Clone, name: str) -> Path:
    """DVC's copy of an intact file."""
    oid = hashlib.md5((clone.root / name).read_bytes()).hexdigest()
    return clone.root / ".dvc/cache/files/md5" / oid[:2] / oid[2:]


def directory_objects(clone: Clone) -> list[Path]:
    return sorted((clone.root / ".dvc/cache/files/md5").glob("??/*.dir"))


def told(clone: Clone, paths: Iterable[Path], printed: str) -> None:
    for path in paths:
        assert f"{path.relative_to(clone.root)}: " in printed, path


def mended(clone: Clone) -> str:
    """Run the one command; afterwards all is as it was, and nothing is left to do."""
    printed = clone.run(*REPAIR)
    assert "all as it should be" in printed
    assert clone.outs() == clone.before  # type: ignore[attr-defined]
    assert not re.search("Running stage|cached", clone.run("dvc", "repro"))
    assert clone.run("git", "status", "--porcelain") == ""
    assert not [path for path in (clone.root / "data/.scratch/damaged").rglob("*") if path.is_file()]
    return printed


def test_intact(clone: Clone) -> None:
    printed = clone.run("python", "-m", "pipeline", "verify")
    assert "all as it should be" in printed
    assert len(printed.strip().splitlines()) == 1


def test_damaged_files_are_restored_from_the_cache(clone: Clone) -> None:
    paths = [clone.root / name for name in KINDS]
    for path in paths:
        flip(path)
    printed = clone.run("python", "-m", "pipeline", "verify", code=65)
    told(clone, paths, printed)
    assert "To make it again: `python -m pipeline verify --repair`" in printed
    assert "Running stage" not in mended(clone)


def test_a_plain_run_ends_with_the_damage_named(clone: Clone) -> None:
    """An export is read by no stage, and DVC goes by times."""
    flip(clone.root / "data/export/pretrain/model.safetensors")
    printed = clone.repro(code=65)
    assert "data/export/pretrain/model.safetensors: damaged" in printed
    remedy = re.search(r"`(python -m pipeline .*?)`", printed)
    assert remedy is not None
    clone.run(*remedy[1].split())
    assert "Same bytes" in clone.repro()


def test_missing_files_and_outs_come_back(clone: Clone) -> None:
    (clone.root / "data/tokens/val-00000.parquet").unlink()
    (clone.root / "data/metrics/evaluate.json").unlink()
    (clone.root / "data/views/windows.json").unlink()
    shutil.rmtree(clone.root / "data/windows")
    (clone.root / "data/tokens/stranger").write_text("?")
    printed = clone.run("python", "-m", "pipeline", "verify", code=65)
    for line in (
        "data/tokens/val-00000.parquet: missing", "data/metrics/evaluate.json: missing", "data/windows: missing",
        "data/views/windows.json: missing", "data/tokens/stranger: a file that dvc.lock does not know",
    ):  # fmt: skip
        assert line in printed
    mended(clone)


def test_a_damaged_cache_is_set_aside_and_filled_again(clone: Clone) -> None:
    """Also what plain DVC would bring back without a word: a metrics file of its run cache."""
    entry = next((clone.root / ".dvc/cache/runs").glob("??/*/*"))
    paths = [*sorted({cached(clone, name) for name in KINDS}), *directory_objects(clone), entry]
    for path in paths:
        flip(path, at=0)
    told(clone, paths, clone.run("python", "-m", "pipeline", "verify", code=65))
    printed = mended(clone)
    assert "Running stage" not in printed
    assert printed.count("put back") == len(paths) - 1  # an entry of the run cache is written by the next run
    aside = {path.name for path in (clone.root / ".dvc/cache/damaged").iterdir()}
    assert {path.parent.name + path.name for path in paths[:-1]} | {f"run-{entry.name}"} == aside
    for name in KINDS:
        assert cached(clone, name).read_bytes() == (clone.root / name).read_bytes()
        assert cached(clone, name).stat().st_mode & 0o777 == 0o444


def test_damaged_with_their_listing(clone: Clone) -> None:
    """A directory's object is gone too: the manifest says which files it had."""
    for path in directory_objects(clone):
        flip(path)
    flip(clone.root / "data/tokens/train-00000.parquet")
    (clone.root / "data/export/pretrain/merges.txt").unlink()
    printed = mended(clone)
    assert "data/tokens: restored from intact copies" in printed
    assert "data/export/pretrain: restored from intact copies" in printed


def test_what_no_copy_is_left_of_is_made_again_by_its_stage(clone: Clone) -> None:
    """Each kind damaged, in the cache too; a plain run says what mends it, and that works."""
    copies = sorted({cached(clone, name) for name in KINDS})
    everywhere = {path.read_bytes() for path in copies}
    for path in [p for p in (clone.root / "data").rglob("*") if p.is_file() and not p.match("*/.cache/*/*")]:
        if path.read_bytes() in everywhere and ".scratch" not in path.parts and ".cache" not in path.parts:
            flip(path)
    for path in copies:
        flip(path)
    clone.run("python", "-m", "pipeline", "verify", code=65)
    printed = mended(clone)
    assert "data/windows: no intact copy; running windows" in printed
    assert "data/metrics/tokenize.json: restored from the last commit" in printed


def test_saved_states_and_downloads_are_removed_and_made_again_by_need(clone: Clone) -> None:
    state = next((clone.root / "data/.scratch/pretrain").glob("*/step-*/weights.safetensors"))
    downloads = Path(clone.more["GPTCORE_CACHE"])
    file = next(p for p in downloads.iterdir() if re.fullmatch("[0-9a-f]{64}", p.name))
    wheel = next(downloads.glob("wheels/*/*.whl"))
    for path in (state, file, wheel):
        flip(path)
    told(clone, (state, file, wheel), clone.run("python", "-m", "pipeline", "verify", code=65))
    printed = mended(clone)
    assert "damaged saved state removed" in printed
    assert printed.count("damaged download removed") == 2
    assert not any(path.exists() for path in (state, file, wheel))


def test_what_nothing_knows_is_told_and_no_failure(clone: Clone) -> None:
    (clone.root / "data/checkpoints/old").mkdir()
    (clone.root / "data/checkpoints/old/weights").write_bytes(b"x" * 10)
    (clone.root / "data/.windows.tmp-999999").mkdir()
    (clone.root / "data/.windows.tmp-999999/train.npy").touch()
    printed = clone.run("python", "-m", "pipeline", "verify")
    assert "data/checkpoints/old: unknown: nothing wrote it, nothing reads it (1 file(s)" in printed
    assert "data/.windows.tmp-999999: a draft that a killed process left" in printed
    assert "2 unknown, which is no failure" in printed
    shutil.rmtree(clone.root / "data/checkpoints/old")
    shutil.rmtree(clone.root / "data/.windows.tmp-999999")


def test_one_place(clone: Clone, tmp_path: Path) -> None:
    """A file, an artifact, a copy elsewhere; what nothing describes is refused."""
    verify = ("python", "-m", "pipeline", "verify")
    copy = shutil.copytree(clone.root / "data/export/pretrain", tmp_path / "copy")
    assert "all as it should be" in clone.run(*verify, str(copy))
    flip(copy / "merges.txt")
    printed = clone.run(*verify, str(copy), code=65)
    assert f"{copy}/merges.txt: damaged: expected sha256" in printed
    assert "take an intact copy from elsewhere" in clone.run(*verify, "--repair", str(copy), code=65)
    flip(clone.root / "data/windows/train.npy")
    flip(clone.root / "data/tokens/train-00000.parquet")
    assert "data/windows/train.npy: damaged" in clone.run(*verify, "data/windows/train.npy", code=65)
    assert "all as it should be" in clone.run(*verify, "data/windows/val.npy")
    assert "all as it should be" in clone.run(*verify, "--repair", "data/windows")
    assert "data/tokens/train-00000.parquet" in clone.run(*verify, code=65)  # it was not asked to mend this one
    mended(clone)
    assert "nothing says what it should hold" in clone.run(*verify, "params.yaml", code=65)
    assert "missing, and dvc.lock knows of no such file" in clone.run(*verify, "data/nowhere", code=65)


def test_the_remedies_that_messages_name_work(clone: Clone) -> None:
    """Of the library's command line and of a stage, with the cache damaged as well."""
    stage = ("python", "-m", "pipeline", "windows", "--tokens", "data/tokens", "--out", "data/other/windows")
    commands = {
        "data/tokens/train-00000.parquet": (*stage, "--metrics", "data/other/metrics/other.json"),
        "data/export/pretrain/model.safetensors": ("python", "-m", "gptcore", "generate", "data/export/pretrain", "x"),
    }
    for name, command in commands.items():
        copy = cached(clone, name)
        flip(clone.root / name)
        flip(copy)
        printed = clone.run(*command, code=65)
        remedy = re.search(r"`(python -m pipeline .*?)`", printed)
        assert remedy is not None, printed
        clone.run(*remedy[1].split())
        clone.run(*command)
    shutil.rmtree(clone.root / "data/other")
    mended(clone)

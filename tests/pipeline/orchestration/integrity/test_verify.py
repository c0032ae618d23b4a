"""What lies on disk against everything that says what should, with a plain DVC, on the toy project."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from gptcore.artifact import commit
from gptcore.errors import BusyError, DataError
from pipeline import locks
from pipeline.orchestration import dvc_files, dvc_graph
from pipeline.orchestration.integrity import command
from pipeline.orchestration.integrity.dvc_cache import Cache
from pipeline.orchestration.integrity.on_disk import Disk, directory_md5, names
from pipeline.orchestration.integrity.outs import in_order, lock_here
from pipeline.orchestration.integrity.verify import look, told
from pipeline.orchestration.same_bytes import verdict

VERIFY = [sys.executable, "-m", "pipeline", "verify"]


@pytest.fixture
def made(toy: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The toy project after a run."""
    toy.environment["GPTCORE_CACHE"] = str(toy.root / "downloads")
    monkeypatch.setenv("GPTCORE_CACHE", str(toy.root / "downloads"))
    done = toy.run(["dvc", "repro"])
    assert done.returncode == 0, done.stderr
    return toy


def flip(path: Path) -> None:
    """One bit, the first; the time of its last change and its protection stay."""
    before, content = path.stat(), bytearray(path.read_bytes())
    path.chmod(0o644)
    content[0] ^= 1
    path.write_bytes(content)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def lines(root: Path, place: Path | None = None) -> list[str]:
    return told(look(root, place)).splitlines()


# --- hashes ---


def test_each_file_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    disk = Disk()
    first = disk.md5(tmp_path)
    (tmp_path / "a").write_bytes(b"y")
    assert disk.md5(tmp_path) == first
    assert (disk.files, disk.bytes) == (1, 10)
    assert disk.having(disk.sha256(tmp_path / "a")) == tmp_path / "a"
    assert Disk().md5(tmp_path) != first


def test_what_cannot_be_read_equals_nothing(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert Disk().content(tmp_path / "dangling").md5.startswith("nothing that can be read (No such file")
    assert names(tmp_path) == ["dangling"]
    assert Disk().md5(tmp_path / "nowhere") == ""


def test_dvcs_own_hashes_are_these(made: Any) -> None:
    """Of files, of directories, and of what its run cache is named by."""
    folder = made.root / "folder"
    for name in ("b", "a/ü", "a.txt", "a/b/c"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    assert made.run(["dvc", "add", "folder", "--quiet"]).returncode == 0
    stated = dvc_files.YAML(typ="safe").load((made.root / "folder.dvc").read_text())["outs"][0]["md5"]
    assert Disk().md5(folder) == stated
    assert directory_md5({}) == "d751713988987e9331980363e24189ce.dir"
    cache = Cache(dvc_graph.cache_folder(made.root), Disk())
    assert sorted(cache.listing(stated) or {}) == ["a.txt", "a/b/c", "a/ü", "b"]
    assert len(list(cache.entries())) == 6
    assert list(cache.findings()) == []
    for path in [*cache.entries(), *(path for _, path in cache.objects())]:
        flip(path)
    damaged = list(Cache(cache.folder, Disk()).findings())
    assert len(damaged) == 6 + len(list(cache.objects()))


def test_a_size_in_the_run_cache_that_is_no_count_is_damage(made: Any) -> None:
    """No hash covers it, and DVC adds sizes up."""
    cache = Cache(dvc_graph.cache_folder(made.root), Disk())
    entry = next(cache.entries())
    text = entry.read_text()
    entry.chmod(0o644)
    for size in ("12*", "-1", "", "[]"):
        entry.write_text(re.sub(r"size: \d+", f"size: {size}", text, count=1))
        assert [finding.path for finding in Cache(cache.folder, Disk()).findings()] == [entry], size


# --- findings and repair ---


def test_all_is_well(made: Any) -> None:
    assert lines(made.root)[-1].endswith("all as it should be")
    assert made.run(VERIFY).returncode == 0
    assert set(in_order(lock_here(made.root))[:1]) == {"seed"}


def test_without_any_copy_its_stage_and_no_other_runs_again(made: Any) -> None:
    before = {path.name: path.read_bytes() for path in made.root.glob("*.txt")}
    lock = (made.root / "dvc.lock").read_bytes()
    for name in ("left.txt", "both.txt"):
        md5 = Disk().md5(made.root / name)
        flip(made.root / name)
        flip(Cache(dvc_graph.cache_folder(made.root), Disk()).path(md5))
    assert verdict(made.root).code == 65
    assert len(look(made.root).damage) == 4
    made.forget()
    done = made.run([*VERIFY, "--repair"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert made.ran() == ["left", "both"]
    assert "left.txt: no intact copy; running left" in done.stdout
    (made.root / "log.txt").write_bytes(before.pop("log.txt"))
    assert {name: (made.root / name).read_bytes() for name in before} == before
    assert (made.root / "dvc.lock").read_bytes() == lock
    assert "Running" not in made.run(["dvc", "repro"]).stdout
    assert look(made.root).damage == []


def test_a_stage_that_fails_loses_nothing_and_is_told(made: Any) -> None:
    md5 = Disk().md5(made.root / "left.txt")
    flip(made.root / "left.txt")
    flip(Cache(dvc_graph.cache_folder(made.root), Disk()).path(md5))
    damaged = (made.root / "left.txt").read_bytes()
    made.knobs("left", exit=69)
    done = made.run([*VERIFY, "--repair"])
    assert done.returncode == 65
    assert "left: this is what went wrong" in done.stdout + done.stderr
    assert "what was damaged lies in data/.scratch/damaged" in done.stdout
    assert "left.txt: missing" in done.stdout
    assert (made.root / "data/.scratch/damaged/left.txt").read_bytes() == damaged
    made.knobs("left")
    assert made.run([*VERIFY, "--repair"]).returncode == 0
    assert verdict(made.root).kept


def test_saved_states_and_downloads_are_judged(made: Any) -> None:
    states = made.root / "data/.scratch/train/abc"
    for step in ("step-00000001", "step-00000002"):
        with commit(states / step, kind="training state", config={}) as draft:
            (draft / "weights").write_bytes(b"w" * 100)
    flip(states / "step-00000002/weights")
    (states / "step-00000003").mkdir()
    downloads = made.root / "downloads"
    downloads.mkdir()
    (downloads / ("a" * 64)).write_bytes(b"no")
    (downloads / "b.part").touch()
    told = lines(made.root)
    assert [line.partition(":")[0] for line in told[:-1]] == [
        "data/.scratch/train/abc/step-00000002/weights",
        "data/.scratch/train/abc/step-00000003/manifest.json",
        f"downloads/{'a' * 64}",
    ]
    assert made.run([*VERIFY, "--repair"]).returncode == 0
    assert [path.name for path in states.iterdir()] == ["step-00000001"]
    assert [path.name for path in downloads.iterdir()] == ["b.part"]


def test_an_artifact_that_was_recorded_damaged_is_found_by_its_manifest(made: Any) -> None:
    with commit(made.root / "kept", kind="x", config={}) as draft:
        (draft / "a").write_bytes(b"a" * 10)
    flip(made.root / "kept/a")
    lock = dvc_files.YAML(typ="safe").load((made.root / "dvc.lock").read_text())
    lock["stages"]["kept"] = {"cmd": "x", "outs": [{"path": "kept", "md5": Disk().md5(made.root / "kept")}]}
    dvc_files.YAML(typ="safe").dump(lock, made.root / "dvc.lock")
    with open(made.root / "dvc.yaml", "a") as file:
        file.write("  kept: {cmd: x, outs: [kept]}\n")
    assert lines(made.root)[0].startswith("kept/a: damaged: expected sha256")


def test_a_commit_of_metrics_without_their_lock_is_told(made: Any) -> None:
    folder = made.root / "data"
    folder.mkdir(exist_ok=True)
    (folder / "numbers.json").write_text("1")
    lock = dvc_files.YAML(typ="safe").load((made.root / "dvc.lock").read_text())
    lock["stages"]["n"] = {
        "cmd": "x",
        "outs": [{"path": "data/numbers.json", "md5": Disk().md5(folder / "numbers.json")}],
    }
    dvc_files.YAML(typ="safe").dump(lock, made.root / "dvc.lock")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    made.run(["git", "add", "-A"])
    made.run([*git, "commit", "-qm", "run"])
    assert look(made.root).damage == []
    (folder / "numbers.json").write_text("2")
    made.run([*git, "commit", "-qam", "numbers alone"])
    (folder / "numbers.json").write_text("1")
    assert lines(made.root)[0].startswith("data/numbers.json: the commit holds other bytes")


def test_strangers_are_told_by_the_highest_folder_that_nothing_knows(made: Any) -> None:
    data = made.root / "data"
    (data / "old/deep").mkdir(parents=True)
    (data / "old/deep/x").write_bytes(b"123")
    (data / "notes.txt").touch()
    (data / ".scratch").mkdir(exist_ok=True)
    (data / ".scratch/.step-1.tmp-99").mkdir()
    told = lines(made.root)
    assert told[0].startswith("data/notes.txt: unknown")
    assert told[1].startswith("data/old: unknown: nothing wrote it, nothing reads it (1 file(s)")
    assert told[2].startswith("data/.scratch/.step-1.tmp-99: a draft")
    assert told[-1].endswith("all as it should be; 3 unknown, which is no failure")


# --- one place ---


def test_one_place_is_judged_alone(made: Any, tmp_path: Path) -> None:
    flip(made.root / "left.txt")
    flip(made.root / "both.txt")
    assert [line.partition(":")[0] for line in lines(made.root, Path("left.txt"))] == ["left.txt", "left.txt"]
    assert lines(made.root, Path("seed.txt"))[-1].endswith("all as it should be")
    with pytest.raises(DataError, match=r"stage\.py: nothing says what it should hold; expected an artifact"):
        look(made.root, Path("stage.py"))
    with pytest.raises(DataError, match=r"missing, and dvc\.lock knows of no such file"):
        look(made.root, tmp_path / "nowhere")
    (made.root / "left.txt").unlink()
    assert lines(made.root, Path("left.txt"))[0] == "left.txt: missing"
    assert command.verify(made.root, Path("left.txt"), repair=True) == 0
    assert command.verify(made.root, None, repair=False) == 65  # the other one


def test_an_artifact_that_was_copied_elsewhere(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with commit(tmp_path / "x", kind="export", config={}) as draft:
        (draft / "a").write_bytes(b"a" * 10)
    copy = shutil.copytree(tmp_path / "x", tmp_path / "copies" / "x")
    assert lines(made.root, copy)[-1].endswith("all as it should be")
    assert lines(made.root, copy.parent)[-1].endswith("all as it should be")
    manifest = json.loads((copy / "manifest.json").read_text())
    flip(copy / "a")
    assert lines(made.root, copy / "a")[0].startswith(
        f"{copy}/a: damaged: expected sha256 {manifest['files']['a']['sha256']}"
    )
    assert command.verify(made.root, copy, repair=True) == 65
    assert "take an intact copy from elsewhere" in capsys.readouterr().out


def test_where_nothing_was_made_that_is_said(toy: Any) -> None:
    done = toy.run(VERIFY)
    assert done.returncode == 65
    assert done.stderr.startswith("error: dvc.lock: missing or empty, so nothing says what should be here; run `make")


def test_while_a_run_writes_nothing_is_judged(made: Any) -> None:
    with (
        locks.held(made.root / "data/.scratch/repro.lock"),
        pytest.raises(BusyError, match=f"repro.lock is held by process {os.getpid()}"),
    ):
        command.verify(made.root, None, repair=False)

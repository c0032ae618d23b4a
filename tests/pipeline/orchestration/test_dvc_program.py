"""DVC as this project runs it: a cut harms none of its files, and a damaged cache is never believed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.orchestration import dvc_program

BOTH = ["seed", "left"]
ROOT = Path(__file__).resolve().parents[3]


def repro(toy: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return toy.run([*dvc_program.COMMAND, "repro", *(arguments or BOTH)])


def made(toy: Any) -> None:
    done = repro(toy)
    assert done.returncode == 0, done.stderr
    toy.forget()


def flip(path: Path) -> None:
    """One bit in the middle of a file, its times kept: what a bad disk does."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(stat.st_mode)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def cached(toy: Any) -> list[Path]:
    return sorted(path for path in (toy.root / ".dvc" / "cache" / "files").rglob("*") if path.is_file())


@pytest.mark.parametrize("module", ["_common", "_json", "_py", "_toml", "_yaml"])
def test_a_writer_that_is_cut_leaves_the_former_file(module: str, tmp_path: Path) -> None:
    """In a process of its own: DVC stays as it is in this one."""
    path = tmp_path / "dvc.lock"
    path.write_text("former")
    code = f"""
import os, signal
from pipeline.orchestration.dvc_program import harden
harden()
from dvc.utils.serialize import {module} as module
def cut(data, stream):
    stream.write("half of it" * 100_000)
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
module._dump_data({str(path)!r}, {{}}, cut)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert path.read_text() == "former"


def test_a_stage_that_is_switched_off_leaves_the_lock(tmp_path: Path) -> None:
    """With the next stage that is recorded; what is left is to the byte what it was before."""
    wiring = {"cut": {"cmd": "echo cut > cut", "deps": ["text"], "outs": ["cut"]}}
    more = {"cmd": "echo more > more", "outs": ["more"]}
    wiring["more"] = {"foreach": "${more.of}", "do": more}  # type: ignore[dict-item]

    def run(text: str, of: str) -> str:
        (tmp_path / "text").write_text(text)
        (tmp_path / "params.yaml").write_text(f"more: {{of: [{of}]}}\n")
        subprocess.run([*dvc_program.COMMAND, "repro", "-q"], cwd=tmp_path, env=environment, check=True)
        return (tmp_path / "dvc.lock").read_text()

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*dvc_program.COMMAND, "init", "-q", "--no-scm"], cwd=tmp_path, env=environment, check=True)
    YAML(typ="safe").dump({"stages": wiring}, tmp_path / "dvc.yaml")
    without = run("one", "")
    assert "more@x" in run("two", "x")
    assert run("one", "") == without


def test_the_table_of_path_locks_is_replaced_whole(tmp_path: Path) -> None:
    code = f"""
import json, os, signal
from pipeline.orchestration.dvc_program import harden
harden()
from dvc import rwlock
from dvc.fs import localfs
def cut(table, file):
    file.write("{{")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
with rwlock._edit_rwlock({str(tmp_path)!r}, localfs, False):
    pass
rwlock.json.dump = cut
with rwlock._edit_rwlock({str(tmp_path)!r}, localfs, False):
    pass
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert json.loads((tmp_path / "rwlock").read_text()) == {"read": {}, "write": {}}


def test_a_full_disk_leaves_no_draft_beside_an_out(tmp_path: Path) -> None:
    """Nor does the former file change; DVC's own routine leaves one for good."""
    (tmp_path / "from").write_text("new")
    (tmp_path / "out").write_text("former")
    code = f"""
import errno
from pipeline.orchestration.dvc_program import harden
harden()
from dvc.fs import localfs
from dvc_objects.fs import local
def full(source, draft, **options):
    open(draft, "w").write("half of it")
    raise OSError(errno.ENOSPC, "no space")
whole, local.copyfile = local.copyfile, full
try:
    localfs.put_file({str(tmp_path / "from")!r}, {str(tmp_path / "out")!r})
except OSError:
    local.copyfile = whole
    localfs.put_file({str(tmp_path / "from")!r}, {str(tmp_path / "second")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "from": "new",
        "out": "former",
        "second": "new",
    }


@pytest.mark.parametrize("share", [0.0, 0.4, 0.77, 0.95])
def test_a_record_that_another_dvc_left_cut_comes_back_and_nothing_runs_again(toy: Any, share: float) -> None:
    made(toy)
    lock = toy.root / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[: int(len(whole) * share)])
    done = repro(toy)
    assert done.returncode == 0, done.stderr
    assert lock.read_bytes() == whole
    assert toy.ran() == []
    assert "dvc.lock: " in done.stderr
    assert "set aside as .dvc/tmp/dvc.lock.damaged" in done.stderr


def test_a_record_with_gits_marks_of_conflict_is_the_users(toy: Any) -> None:
    made(toy)
    lock = toy.root / "dvc.lock"
    lock.write_text(f"<<<<<<< ours\n{lock.read_text()}=======\n>>>>>>> theirs\n")
    before = lock.read_bytes()
    assert repro(toy).returncode != 0
    assert lock.read_bytes() == before


def test_dvcs_own_records_are_what_ours_are(toy: Any) -> None:
    """The same dvc.lock, byte for byte, as from DVC's own program."""
    made(toy)
    ours = (toy.root / "dvc.lock").read_bytes()
    (toy.root / "dvc.lock").unlink()
    shutil.rmtree(toy.root / ".dvc" / "cache")
    done = toy.run([sys.executable, "-m", "dvc", "repro", *BOTH])
    assert done.returncode == 0, done.stderr
    assert (toy.root / "dvc.lock").read_bytes() == ours


def test_a_damaged_file_of_the_cache_is_named_set_aside_and_made_again(toy: Any) -> None:
    made(toy)
    content = (toy.root / "left.txt").read_text()
    for path in cached(toy):
        flip(path)
    (toy.root / "left.txt").unlink()
    done = repro(toy)
    assert done.returncode == 0, done.stderr
    assert (toy.root / "left.txt").read_text() == content
    assert toy.ran() == ["left"]
    assert "WARNING: .dvc/cache/files/md5/" in done.stderr
    assert "set aside as .dvc/cache/damaged/" in done.stderr
    (toy.root / "left.txt").unlink()
    toy.forget()
    assert repro(toy).returncode == 0  # what took its place in the cache is whole
    assert toy.ran() == []
    assert (toy.root / "left.txt").read_text() == content


def test_dvc_by_itself_believes_the_damaged_file(toy: Any) -> None:
    """Why the above is needed; the day it fails, DVC does it by itself."""
    made(toy)
    for path in cached(toy):
        flip(path)
    content = (toy.root / "left.txt").read_text()
    (toy.root / "left.txt").unlink()
    assert toy.run([sys.executable, "-m", "dvc", "repro", *BOTH]).returncode == 0
    assert (toy.root / "left.txt").read_text() != content


def test_a_damaged_file_list_of_a_folder_and_a_damaged_metric_are_made_again(toy: Any) -> None:
    (toy.root / "fold.sh").write_text(
        """mkdir -p folder && echo one > folder/one && echo two > folder/two
        echo '{"a": 1}' > metric.json && echo x start 0 >> log.txt"""
    )
    stage = {
        "cmd": "sh fold.sh",
        "deps": ["fold.sh"],
        "outs": ["folder"],
        "metrics": [{"metric.json": {"cache": False}}],
    }
    YAML().dump({"stages": {"fold": stage}}, toy.root / "dvc.yaml")
    assert repro(toy, "fold").returncode == 0
    toy.forget()
    for path in cached(toy):
        if path.suffix == ".dir" or b"{" in path.read_bytes():
            flip(path)
    shutil.rmtree(toy.root / "folder")
    (toy.root / "metric.json").unlink()
    done = repro(toy, "fold")
    assert done.returncode == 0, done.stderr
    assert toy.ran() == ["x"]
    assert (toy.root / "metric.json").read_text() == '{"a": 1}\n'
    assert (toy.root / "folder" / "two").read_text() == "two\n"


def test_a_damaged_record_of_a_run_is_not_followed(toy: Any) -> None:
    made(toy)
    lock = (toy.root / "dvc.lock").read_bytes()
    records = [path for path in (toy.root / ".dvc" / "cache" / "runs").rglob("*") if path.is_file()]
    for path in records:
        path.write_text(path.read_text().replace("left.txt", "rift.txt").replace("seed.txt", "sead.txt"))
    (toy.root / "dvc.lock").unlink()
    (toy.root / "left.txt").unlink()
    done = repro(toy)
    assert done.returncode == 0, done.stderr
    assert sorted(toy.ran()) == sorted(BOTH)
    assert (toy.root / "dvc.lock").read_bytes() == lock
    assert not (toy.root / "rift.txt").exists()


def test_a_cut_between_a_record_of_a_run_and_its_folder_harms_no_later_run(toy: Any) -> None:
    made(toy)
    lock = (toy.root / "dvc.lock").read_bytes()
    for path in (toy.root / ".dvc" / "cache" / "runs").rglob("*"):
        if path.is_file():
            path.unlink()
    (toy.root / "dvc.lock").unlink()
    done = repro(toy)
    assert done.returncode == 0, done.stderr
    assert sorted(toy.ran()) == sorted(BOTH)
    assert (toy.root / "dvc.lock").read_bytes() == lock


def test_what_dvc_checkout_brings_back_is_hashed_too(toy: Any) -> None:
    """``dvc checkout`` takes another way through DVC than a stage that is restored."""
    (toy.root / "fold.sh").write_text("mkdir -p folder && echo one > folder/one && echo two > folder/two")
    stage = {"cmd": "sh fold.sh", "deps": ["fold.sh"], "outs": ["folder"]}
    YAML().dump({"stages": {"fold": stage}}, toy.root / "dvc.yaml")
    assert repro(toy, "fold").returncode == 0
    for path in cached(toy):
        if path.read_bytes() == b"one\n":
            flip(path)
    shutil.rmtree(toy.root / "folder")
    done = toy.run([*dvc_program.COMMAND, "checkout"])
    assert done.returncode != 0
    assert "set aside as .dvc/cache/damaged/" in done.stderr
    assert not (toy.root / "folder" / "one").exists()


def test_a_record_that_git_ignores_stays_where_it_is(toy: Any) -> None:
    made(toy)
    whole = (toy.root / "dvc.lock").read_bytes()
    with open(toy.root / ".gitignore", "a") as file:
        file.write("dvc.lock\n")
    toy.run([*dvc_program.COMMAND, "status"])
    assert (toy.root / "dvc.lock").read_bytes() == whole

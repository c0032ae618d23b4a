"""The user's folder: what is taken, what is passed over and why, and what would stop or hang whoever reads it."""

import itertools
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gptcore.errors import DataError
from pipeline.sources import own_text
from pipeline.store.artifact import content_hash

FORMATS = {"text": (".txt",), "jsonl": (".jsonl",), "csv-gz": (".csv.gz",), "gz": (".gz",)}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.txt", "sub/a.TXT", "lines.jsonl", "README.md"):
        (folder / name).write_text("text")
    return folder


def test_every_file_is_taken_or_told(own: Path) -> None:
    for name in ("table.csv", "notes.md", "sub/README.md", ".DS_Store", "x.csv.gz", "noend"):
        (own / name).write_text("x")
    (own / "dir.txt").mkdir()
    (own / "elsewhere").symlink_to(own / "sub")
    (own / "link.txt").symlink_to(own / "b.txt")
    assert own_text.survey(own, FORMATS).lines(Path(own)) == [
        f"{own}: b.txt, link.txt, sub/a.TXT taken as text",
        f"{own}: lines.jsonl taken as jsonl",
        f"{own}: x.csv.gz taken as csv-gz",  # the longest ending counts
        f"{own}: .DS_Store skipped: hidden, as editors' and systems' files are",
        f"{own}: elsewhere skipped: a link to a directory; put the files themselves there",
        f"{own}: noend, notes.md, sub/README.md, table.csv skipped: no format is known by this ending "
        "(known: .txt, .jsonl, .csv.gz, .gz)",
    ]


def test_many_files_are_told_in_short_and_names_can_not_write_on_the_terminal(own: Path) -> None:
    for number in range(20):
        (own / f"{number:02}.csv").write_text("x")
    (own / "\x1b[31m\nred.txt").write_text("x")
    told = "\n".join(own_text.survey(own, FORMATS).lines(own))
    assert "00.csv, 01.csv, 02.csv, 03.csv, 04.csv and 15 more skipped" in told
    assert "'\\x1b[31m\\nred.txt'" in told
    assert "\x1b" not in told


def harm(own: Path, kind: str) -> str:
    """Put something unreadable there; returns what is said of it."""
    match kind:
        case "undecodable":
            (Path(os.fsdecode(os.fsencode(own) + b"/caf\xe9.txt"))).write_text("x")
            return r"caf\\xe9\.txt': its name is not UTF-8"
        case "undecodable folder":
            folder = Path(os.fsdecode(os.fsencode(own) + b"/caf\xe9"))
            folder.mkdir()
            (folder / "x.txt").write_text("x")
            return r"caf\\xe9/x\.txt': its name is not UTF-8"
        case "loop":
            (own / "loop.txt").symlink_to("loop.txt")
            return r"loop\.txt: a link that leads nowhere \(Too many levels"
        case "broken":
            (own / "broken.txt").symlink_to("nothing")
            return r"broken\.txt: a link that leads nowhere \(No such file"
        case "pipe":
            os.mkfifo(own / "pipe.txt")
            return r"pipe\.txt: a pipe, socket or device"
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                os.chdir(own)  # a socket's path is at most 108 bytes long
                made.bind("s.txt")
            return r"s\.txt: a pipe, socket or device"
    raise AssertionError(kind)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["undecodable", "undecodable folder", "loop", "broken", "pipe", "socket"])
def test_what_nobody_can_read_is_refused_before_anybody_hangs(
    own: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.parent)
    expected = harm(own, kind)
    with pytest.raises(DataError, match=expected) as told:
        own_text.refuse_unreadable(own)
    assert str(told.value).startswith(f"{own}: 1 that nobody can read; mend or move away")
    assert str(told.value).isascii()


@pytest.mark.timeout(20)
def test_the_rest_is_read(own: Path) -> None:
    (own / "round").symlink_to(own)  # round in a circle
    (own / f"{'x' * 251}.txt").write_text("x")
    (own / "dir.txt").mkdir()
    own_text.refuse_unreadable(own)
    assert len(own_text.survey(own, FORMATS).taken["text"]) == 3
    own_text.refuse_unreadable(own / "missing")  # DVC's to tell


def test_a_file_that_may_not_be_read_is_refused(own: Path) -> None:
    """In a process that may not, for a test's own user may be root."""
    (own / "b.txt").chmod(0)
    for folder in itertools.takewhile(lambda path: not path.stat().st_mode & stat.S_ISVTX, (own, *own.parents)):
        folder.chmod(0o755)  # up to the system's own folder of temporary files
    code = (
        "import os, sys; from pathlib import Path; from pipeline.sources import own_text\n"
        "if os.geteuid() == 0: os.setresuid(65534, 65534, 65534)\n"
        "own_text.refuse_unreadable(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(own)], capture_output=True, text=True, check=False)
    assert "b.txt: not permitted" in done.stderr


def test_an_undecodable_name_is_an_error_of_the_data_for_the_fingerprint_too(own: Path) -> None:
    harm(own, "undecodable")
    with pytest.raises(DataError, match=r"caf\\xe9\.txt' is not UTF-8; rename"):
        content_hash(own)


def test_an_experiments_copy_must_hold_all_of_it(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    (copy / "own").mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    own_text.refuse_partial_copy(Path("own"))  # the real one
    monkeypatch.chdir(copy)
    (copy / "own" / "README.md").write_text("text")
    with pytest.raises(DataError, match=r"lacks 3 of your files \(b\.txt\).*python -m pipeline exp"):
        own_text.refuse_partial_copy(Path("own"))

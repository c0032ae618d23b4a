"""Artifacts: whole and verified, or an error that names the file; killed at every line, with every bit flipped."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptcore.artifact import MANIFEST, canonical_json, commit, open_verified, read_manifest, write_atomically
from gptcore.errors import DataError, DiskError
from tests.processor import slowness

CONTENT = {"weights.bin": bytes(range(256)) * 3, "sub/notes.txt": "Größe 3 µm\n".encode(), "empty": b""}


def make(directory: Path, content: dict[str, bytes] = CONTENT, **changes) -> Path:
    facts = {"kind": "test", "config": {"rate": 1e-4, "name": "ä"}, "inputs": {"raw": "0" * 64}, **changes}
    with commit(directory, **facts) as draft:
        for name, data in content.items():
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_bytes(data)
    return directory


def tree(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


# --- writing and reading back ----------------------------------------------------------------------------


def test_the_manifest_tells_what_was_written(tmp_path: Path):
    manifest = open_verified(make(tmp_path / "a"), "test")
    assert manifest.files == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in CONTENT.items()
    }
    assert (manifest.config, manifest.inputs) == ({"rate": 1e-4, "name": "ä"}, {"raw": "0" * 64})
    assert {p.name for p in tmp_path.iterdir()} == {"a"}


def test_the_content_hash_is_that_of_the_files_or_of_what_the_caller_says(tmp_path: Path):
    one = read_manifest(make(tmp_path / "one")).content_hash
    assert read_manifest(make(tmp_path / "two", config={"other": 1})).content_hash == one
    assert read_manifest(make(tmp_path / "three", {**CONTENT, "empty": b"x"})).content_hash != one
    meaning = make(tmp_path / "four", content_hash=lambda draft: str(len(list(draft.iterdir()))))
    assert open_verified(meaning).content_hash == "3"


def test_a_new_artifact_replaces_the_former(tmp_path: Path):
    make(tmp_path / "a", {"old": b"old"})
    make(tmp_path / "a", {"new": b"new"})
    assert set(open_verified(tmp_path / "a").files) == {"new"}
    assert {p.name for p in tmp_path.iterdir()} == {"a"}


def test_any_json_keeps_its_manifest_valid(tmp_path: Path):
    config = {"keys": {2: "b", 10: "a"}, "tuple": (1, 2.5), "none": None, "unicode": "\u2028 \x00 😀"}
    expected = {"keys": {"2": "b", "10": "a"}, "tuple": [1, 2.5], "none": None, "unicode": "\u2028 \x00 😀"}
    assert open_verified(make(tmp_path / "a", config=config)).config == expected


@pytest.mark.parametrize("former", [True, False])
def test_an_exception_leaves_what_was_there(tmp_path: Path, former: bool):
    if former:
        make(tmp_path / "a")
    before = tree(tmp_path)
    with pytest.raises(ZeroDivisionError):
        make(tmp_path / "a", {"new": b"new"}, content_hash=lambda draft: str(1 // 0))
    assert tree(tmp_path) == before


def test_a_manifest_cannot_hold_nan(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        make(tmp_path / "a", config={"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


# --- damage ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("artifact") / "a")


def refuses_with(path: Path, data: bytes, directory: Path) -> bool:
    """Whether ``directory`` is refused, by the name of the file, while ``path`` holds ``data``."""
    before = path.read_bytes()
    overwrite(path, data)
    try:
        open_verified(directory)
    except DataError as error:
        return str(path) in str(error)
    finally:
        overwrite(path, before)
    return False


def overwrite(path: Path, data: bytes) -> None:
    """In place: file systems sync a file that is cut to nothing and written anew, thousands of times here."""
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate()


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_each_flipped_bit_of_the_manifest_is_found(whole: Path):
    data = (whole / MANIFEST).read_bytes()
    missed = [bit for bit in range(8 * len(data)) if not refuses_with(whole / MANIFEST, flipped(data, bit), whole)]
    assert missed == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_of_a_file_is_found(whole: Path, data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(CONTENT)))
    before = CONTENT[name]
    flips = (
        st.integers(0, max(0, 8 * len(before) - 1)).map(lambda bit: flipped(before, bit)) if before else st.nothing()
    )
    cuts = st.integers(0, len(before) - 1).map(lambda at: before[:at]) if before else st.nothing()
    grown = st.binary(min_size=1, max_size=9).map(lambda tail: before + tail)
    other = st.binary(max_size=50).filter(lambda new: new != before)
    assert refuses_with(whole / name, data.draw(st.one_of(flips, cuts, grown, other)), whole)
    open_verified(whole, "test")


@pytest.mark.parametrize("name", [*CONTENT, MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    directory = make(tmp_path / "a")
    (directory / name).unlink()
    with pytest.raises(DataError, match=f"{directory / name}.*missing.*mend it with `python -m pipeline verify"):
        open_verified(directory)


def test_an_extra_file_is_named(tmp_path: Path):
    directory = make(tmp_path / "a")
    (directory / "sub" / "stranger").touch()
    with pytest.raises(DataError, match=r"sub/stranger: a file that manifest\.json does not know"):
        open_verified(directory)


def test_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="expected an artifact of kind 'tokens', found 'test'"):
        open_verified(make(tmp_path / "a"), "tokens")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "3", "{}", '{"format": 1}', '{"a": NaN}', "\xff"])
def test_a_foreign_manifest_is_refused(tmp_path: Path, text: str):
    directory = make(tmp_path / "a")
    (directory / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="not a manifest of this project"):
        open_verified(directory)


def test_a_manifest_of_a_later_format_is_refused(tmp_path: Path):
    directory = make(tmp_path / "a")
    fields = json.loads((directory / MANIFEST).read_text())
    del fields["sha256"]
    fields["format"] = 2
    fields["sha256"] = hashlib.sha256(canonical_json(fields).encode()).hexdigest()
    (directory / MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(DataError, match="expected format 1, found 2"):
        open_verified(directory)


def forge(directory: Path, change: Callable[[dict[str, Any]], object], own_hash: bool = True) -> None:
    """Change the manifest, and let its own sha256 agree with it."""
    fields = json.loads((directory / MANIFEST).read_text())
    change(fields)
    if own_hash:
        fields.pop("sha256", None)
        fields["sha256"] = hashlib.sha256(canonical_json(fields).encode("utf-8", "surrogatepass")).hexdigest()
    (directory / MANIFEST).write_bytes(json.dumps(fields).encode())


FACT = {"sha256": "0" * 64, "size": 1}
FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    **{
        f"no {name}": lambda f, name=name: f.pop(name) for name in ("kind", "content_hash", "config", "inputs", "files")
    },
    **{
        f"{name} is {value!r}": lambda f, name=name, value=value: f.update({name: value})
        for name in ("kind", "content_hash", "config", "inputs", "files", "format")
        for value in (None, True, 7, -1.5, [["x"]])
    },
    **{
        f"a file named {name!r}": lambda f, name=name: f["files"].update({name: FACT})
        for name in (
            "../../etc/passwd",
            "/etc/passwd",
            "sub/../../x",
            "..",
            ".",
            "",
            "a//b",
            "a/./b",
            "a/",
            MANIFEST,
            "a\0b",
        )
    },
    **{
        f"a fact that is {value!r}"[:60]: lambda f, value=value: f["files"].update(stranger=value)
        for value in (
            None,
            3,
            "x",
            [],
            {},
            {"size": 1},
            {**FACT, "size": "1"},
            {**FACT, "size": True},
            {**FACT, "size": -1},
        )
    },
    **{
        f"a hash that is {value!r}"[:60]: lambda f, value=value: f["files"].update(stranger={**FACT, "sha256": value})
        for value in (None, 0, ["0" * 64], "0" * 63, "G" * 64, "0" * 64 + "\n", "x" * 1_000_000)
    },
    "an input that is nested": lambda f: f["inputs"].update(a={"b": "c"}),
    "half a character": lambda f: f["config"].update(a="\ud800"),
    "a drawing": lambda f: f.update(kind=["\x1b[2J" * 1000]),
    "a hundred thousand strangers": lambda f: f["files"].update({f"{i}": FACT for i in range(100_000)}),
    "two hundred thousand strangers": lambda f: f["files"].update({f"{i}": FACT for i in range(200_000)}),
}


@pytest.mark.parametrize("own_hash", [True, False])
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_manifest_is_refused_and_nothing_outside_is_opened(tmp_path: Path, name: str, own_hash: bool):
    directory = make(tmp_path / "a")
    forge(directory, FORGERIES[name], own_hash)
    opened: set[str] = set()
    WATCHED.append(opened)
    try:
        with pytest.raises(DataError) as error:
            open_verified(directory, "test")
    finally:
        WATCHED.remove(opened)
    assert len(str(error.value)) < 1_000
    assert "\x1b" not in str(error.value)
    assert not [path for path in opened if "passwd" in path or Path(path).name == "x"]
    assert str(directory / MANIFEST) in opened


WATCHED: list[set[str]] = []
sys.addaudithook(lambda event, arguments: [o.add(str(arguments[0])) for o in WATCHED] if event == "open" else None)


MANIFESTS = {
    "nested": b'{"a":' * 200_000,
    "nested within the limits": b'{"config":' + b"[" * 900 + b"]" * 900 + b"}",
    "UTF-16": '{"format": 1}'.encode("utf-16"),
    "100 MB": b'{"format": 1' + b" " * 100_000_000 + b"}",
    "lists": b'{"format": [' + b"[]," * 5_000_000 + b"[]]}",
    "a key twice": b'{"format": 1, "format": 1}',
    "a number without end": b'{"format": ' + b"1" * 10_000 + b"}",
    "infinity": b'{"format": 1e999}',
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_none_is_refused_at_once(tmp_path: Path, name: str):
    directory = make(tmp_path / "a")
    (directory / MANIFEST).write_bytes(MANIFESTS[name])
    start = time.process_time()
    with pytest.raises(DataError, match=r"manifest\.json: not a manifest of this project \(") as error:
        open_verified(directory)
    assert time.process_time() - start < slowness()
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize("name", ["one file", "a folder", MANIFEST])
def test_links_within_an_artifact_are_refused(tmp_path: Path, name: str):
    """Even where the file behind one agrees with the manifest."""
    directory = make(tmp_path / "a")
    place = directory / {"one file": next(iter(CONTENT)), "a folder": "stranger"}.get(name, name)
    outside = tmp_path / "outside"
    if name == "a folder":
        outside.mkdir()
    else:
        place.rename(outside)
    place.symlink_to(outside)
    with pytest.raises(DataError, match="symbolic link"):
        open_verified(directory)


@pytest.mark.parametrize("place", ["nowhere", "a file"])
def test_no_directory_at_all_is_an_error_that_names_it(tmp_path: Path, place: str):
    (tmp_path / "a file").touch()
    with pytest.raises(DataError, match=place):
        open_verified(tmp_path / place)


# --- the same bytes everywhere ---------------------------------------------------------------------------

WRITE = """
import sys
from pathlib import Path
from gptcore.artifact import commit
names = {"b", "a", "c/d", "e"}  # a set: its order depends on PYTHONHASHSEED
with commit(Path(sys.argv[1]), kind="test", config={n: 1 / 3 for n in names}, inputs={n: n for n in names}) as draft:
    for name in names:
        (draft / name).parent.mkdir(exist_ok=True)
        (draft / name).write_text(name)
"""


def test_manifests_are_equal_in_every_surrounding(tmp_path: Path, run_python):
    surroundings = [("1", "UTC", "C"), ("2", "Asia/Tokyo", "C.UTF-8"), ("3", "America/Lima", "POSIX")]
    for seed, zone, locale in surroundings:
        cwd = tmp_path / seed
        cwd.mkdir()
        done = run_python("-c", WRITE, f"out-{seed}", cwd=cwd, PYTHONHASHSEED=seed, TZ=zone, LC_ALL=locale)
        assert done.returncode == 0, done.stderr
    manifests = {(tmp_path / seed / f"out-{seed}" / MANIFEST).read_bytes() for seed, _, _ in surroundings}
    assert len(manifests) == 1
    text = manifests.pop().decode()
    assert str(tmp_path) not in text
    assert "out-" not in text


# --- kills and full disks --------------------------------------------------------------------------------

# Commits version 2 over version 1 (or over nothing) again and again, in a child that dies at the n-th line which
# `artifact.py` executes; prints what a reader finds after each death.
DIE_AT_EVERY_LINE = """
import os, shutil, sys
from pathlib import Path
from gptcore import artifact
os.fsync = lambda descriptor: None  # a kill loses nothing that the kernel has; this saves the waiting
from gptcore.errors import DataError

def make(content):
    with artifact.commit(Path("a"), kind="test", config={"content": content}) as draft:
        (draft / "one").write_text(content)
        (draft / "two").write_text(content)

def die_at(line):
    def trace(frame, event, argument):
        nonlocal line
        if frame.f_code.co_filename != artifact.__file__:
            return None
        line -= event == "line"
        if line == 0:
            os._exit(9)
        return trace
    sys.settrace(trace)

line, status, former = 0, 9, sys.argv[1] == "former"
while status:
    line += 1
    shutil.rmtree("a", ignore_errors=True)
    if former:
        make("1")
    if (child := os.fork()) == 0:
        die_at(line)
        make("2")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        found = artifact.open_verified(Path("a"), "test").config["content"]
    except DataError:
        found = "damaged" if os.path.exists("a") else "nothing"
    print(found)
make("3")
print(*sorted(os.listdir()))
"""


@pytest.mark.parametrize(("former", "allowed"), [("former", ["1", "2"]), ("none", ["nothing", "2"])])
def test_killed_at_any_line_it_leaves_the_former_artifact_or_the_new_one(tmp_path, run_python, former, allowed):
    done = run_python("-c", DIE_AT_EVERY_LINE, former, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *found, left = done.stdout.splitlines()
    assert len(found) > 100
    assert found == sorted(found, key=allowed.index), "once the new one stands, it stays"
    assert set(found) == set(allowed)
    assert left == "a", "what killed processes left is gone after the next commit"


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
from gptcore.artifact import commit, write_atomically
from gptcore.errors import DiskError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for attempt in range(2):
    try:
        if attempt == 0:
            with commit(Path("a"), kind="test", config={}) as draft:
                (draft / "big").write_bytes(bytes(20_000))
        else:
            write_atomically(Path("b"), bytes(20_000))
    except DiskError as error:
        print(error)
"""


def test_a_full_disk_is_one_sentence_and_costs_nothing(tmp_path: Path, run_python):
    make(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"former")
    before = tree(tmp_path)
    done = run_python("-c", FILL_THE_DISK, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["a", "b"], done.stderr
    assert all("the disk is full" in line and "intact" in line for line in lines)
    assert tree(tmp_path) == before
    open_verified(tmp_path / "a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_place_is_one_sentence(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(DiskError, match="not permitted"):
        make(tmp_path / "a")


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_write_atomically_leaves_exactly_one_file(tmp_path: Path, one: bytes, two: bytes):
    for content in (one, two):
        write_atomically(tmp_path / "new" / "file", content)
        assert tree(tmp_path) == {"new/file": content}


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": "ä"}) == canonical_json({"a": "ä", "b": 1}) == '{"a":"ä","b":1}'


def test_what_killed_processes_left_beside_it_is_put_right(tmp_path: Path):
    """A draft of each kind, and a former artifact that a kill left without its name."""
    dead = 2**22 + 1  # above the highest process number
    (tmp_path / f".file.tmp-{dead}").touch()
    write_atomically(tmp_path / "file", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]

    with commit(tmp_path / "a", kind="test", config={}):
        pass
    (tmp_path / "a").rename(tmp_path / f".a.old-{dead}")
    with pytest.raises(KeyboardInterrupt), commit(tmp_path / "a", kind="test", config={}):
        raise KeyboardInterrupt
    open_verified(tmp_path / "a")
    (tmp_path / f".a.old-{dead}").mkdir()
    (tmp_path / f".a.old-{os.getpid()}").mkdir()
    with commit(tmp_path / "a", kind="test", config={"new": True}):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".a.old-{os.getpid()}", "a", "file"]

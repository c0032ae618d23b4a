"""Directories on disk that are either whole and verified, or not there.

``commit`` writes an artifact: the caller fills a temporary sibling directory, every file is fsynced and
hashed, ``manifest.json`` comes last, and one rename puts the directory under its name.  A process killed
at any point leaves either the former artifact or the new one, never half of one.  ``open_verified`` reads
an artifact: each file is hashed (1.8 GB/s on the reference machine) and compared with the manifest before
anything looks inside, so a flipped bit is an error that names the file.

What the manifest says, and how it is read, is in `manifest.py`.

Rejected: writing in place behind a marker file (a kill while overwriting loses the former artifact) and
trusting the cache that checked the directory out (a corrupted cache is checked out without a word).
"""

import ctypes
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gptcore.errors import DataError, disk_errors
from gptcore.manifest import FORMAT, MANIFEST, REMEDY, Manifest, canonical_json, read_manifest, sha256_text

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux's fcntl.h


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` for people and diffs: sorted, indented, one newline at the end; atomically."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text.encode("utf-8"))


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content``, or leave it as it was."""
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy_up(path)
        temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _fsync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write ``tensors`` as safetensors, with a full disk reported as such: the library only puts it into words."""
    from safetensors import SafetensorError  # here: most artifacts hold no tensors, and PyTorch takes a second
    from safetensors.torch import save_file

    with disk_errors(path):
        try:
            save_file(dict(tensors), path, metadata=metadata)
        except SafetensorError as error:
            if (number := re.search(r"os error (\d+)", str(error))) is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


@contextmanager
def commit(
    directory: Path,
    *,
    kind: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str] | None = None,
    content_hash: Callable[[Path], str] | None = None,
) -> Iterator[Path]:
    """Yield an empty directory to write into; on a clean exit it becomes ``directory``.

    An exception in the body removes the draft and leaves what stood at ``directory`` untouched.
    ``content_hash`` computes the hash of the meaning from the draft, for formats whose bytes also depend
    on the writing library's version.
    """
    directory = Path(directory)
    with disk_errors(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        draft = directory.with_name(f".{directory.name}.tmp-{os.getpid()}")
        _tidy_up(directory)
        shutil.rmtree(draft, ignore_errors=True)  # of a killed process that had our number
        draft.mkdir()
        try:
            yield draft
            _write_manifest(draft, kind, config, inputs or {}, content_hash)
            _swap_in(draft, directory)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def open_verified(directory: Path, kind: str | None = None, remedy: str = REMEDY) -> Manifest:
    """Check every file of the artifact at ``directory`` and return its manifest.

    Raises ``DataError`` naming the first missing, changed or unexpected file, and the ``remedy``, in which ``{}``
    stands for the directory.
    """
    manifest = read_manifest(directory, kind, remedy)
    for path, problem in faults(manifest):
        raise DataError(f"{path}: {problem}; {remedy.format(directory)}")
    return manifest


def faults(manifest: Manifest, sha256: Callable[[Path], str] = sha256_file) -> Iterator[tuple[Path, str]]:
    """Each file that is missing, changed or unexpected, and what is wrong with it.

    A link is wrong wherever it leads: behind it anything may lie, and lie tomorrow something else.
    """
    directory = manifest.directory
    present = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*"))}
    for path in present.values():
        if path.is_symlink():
            yield path, "expected the file itself, found a symbolic link"
    files = {name for name, path in present.items() if path.is_file() and not path.is_symlink()}
    for name, fact in manifest.files.items():
        if name not in present:
            yield directory / name, f"expected by {MANIFEST}, but missing"
        elif problem := _problem(directory / name, fact, sha256):
            yield directory / name, problem
    for name in sorted(files - set(manifest.files) - {MANIFEST}):
        yield directory / name, f"a file that {MANIFEST} does not know"


def _problem(path: Path, fact: Mapping[str, Any], sha256: Callable[[Path], str]) -> str | None:
    try:
        if not path.is_file():
            return "expected a file"
        if (size := path.stat().st_size) != fact["size"]:
            return f"expected {fact['size']} bytes, found {size}"
        if (found := sha256(path)) != fact["sha256"]:
            return f"damaged: expected sha256 {fact['sha256']}, found {found}"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None


def _write_manifest(
    draft: Path,
    kind: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    content_hash: Callable[[Path], str] | None,
) -> None:
    files = {}
    for path in sorted(draft.rglob("*")):
        if path.is_dir():
            continue
        path.chmod(0o644)  # some writers leave files that only their owner can read
        _fsync_file(path)
        files[path.relative_to(draft).as_posix()] = {"sha256": sha256_file(path), "size": path.stat().st_size}
    default_hash = sha256_text(canonical_json({name: fact["sha256"] for name, fact in files.items()}))
    fields = {
        "format": FORMAT,
        "kind": kind,
        "content_hash": content_hash(draft) if content_hash else default_hash,
        "config": dict(config),
        "inputs": dict(inputs),
        "files": files,
    }
    fields = json.loads(canonical_json(fields))  # as it will be read: keys are strings, tuples are lists
    write_json(draft / MANIFEST, {**fields, "sha256": sha256_text(canonical_json(fields))})
    for folder in [p for p in draft.rglob("*") if p.is_dir()] + [draft]:
        _fsync_directory(folder)


def _tidy_up(path: Path) -> None:
    """Put right what killed processes left beside ``path``: a draft goes, a former artifact gets a free name back."""
    for left in sorted(path.parent.glob(f".{glob.escape(path.name)}.*-*")):
        kind, _, pid = left.name.removeprefix(f".{path.name}.").partition("-")
        if kind not in ("old", "tmp") or not pid.isdigit() or _is_alive(int(pid)):
            continue
        if kind == "old" and not path.exists():  # only where `_exchange` can't be had
            os.rename(left, path)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _swap_in(draft: Path, directory: Path) -> None:
    """Rename ``draft`` to ``directory``; a former artifact changes places with it and goes afterwards."""
    if not directory.exists():
        os.rename(draft, directory)
    elif not _exchange(draft, directory):  # then there is a moment in which only a hidden name holds it
        aside = directory.with_name(f".{directory.name}.old-{os.getpid()}")
        os.rename(directory, aside)
        os.rename(draft, directory)
        os.rename(aside, draft)
    _fsync_directory(directory.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system or the file system can't."""
    names = [_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other)]
    with suppress(OSError, AttributeError):  # another C library
        return ctypes.CDLL(None).renameat2(*names, _RENAME_EXCHANGE) == 0
    return False


def _fsync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_directory(path: Path) -> None:
    with suppress(PermissionError):  # some network file systems refuse to sync a directory
        _fsync_file(path)

"""What lies on disk now, by hash: each file is read once, for both hashes that it may be compared with.

DVC names content by md5, manifests and the download cache by sha256; both come from one reading (0.5 GB/s on the
reference machine: a fifth of a second for the default run).  Nothing is believed for its time of change: a bit that
rots keeps the time, and DVC's own memory of hashes, which goes by it, would call the file unchanged.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
DIRECTORY = ".dir"
"""DVC's ending of the hash of a directory."""


@dataclass(frozen=True)
class Content:
    """Of one file."""

    md5: str
    sha256: str
    bytes: int


class Disk:
    """Files by their hashes, as they were when each was first asked for."""

    def __init__(self) -> None:
        self._read: dict[Path, Content] = {}
        self._by_hash: dict[str, Path] = {}

    @property
    def files(self) -> int:
        """How many were read."""
        return len(self._read)

    @property
    def bytes(self) -> int:
        return sum(content.bytes for content in self._read.values())

    def content(self, path: Path) -> Content:
        """Of a file; one that can't be read has the reason for its hashes, which equal no other."""
        path = Path(os.path.abspath(path))
        if path not in self._read:
            self._read[path] = found = _read(path)
            self._by_hash |= {found.md5: path, found.sha256: path}
        return self._read[path]

    def sha256(self, path: Path) -> str:
        return self.content(path).sha256

    def tree(self, path: Path) -> dict[str, Content]:
        """Relative name → content of every file in a directory; of a file ``{"": …}``; nothing where nothing is."""
        if path.is_dir():
            return {name: self.content(path / name) for name in names(path)}
        return {"": self.content(path)} if path.is_file() else {}

    def md5(self, path: Path) -> str:
        """Of a file or a directory, as dvc.lock states it; empty where there is neither."""
        found = self.tree(path)
        if not path.is_dir():
            return found[""].md5 if found else ""
        return directory_md5({name: content.md5 for name, content in found.items()})

    def having(self, hashed: str) -> Path | None:
        """A file, among those that were read, whose md5 or sha256 is this one."""
        return self._by_hash.get(hashed)


def names(directory: Path) -> list[str]:
    """Of every file below a directory, with forward slashes, sorted."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())


def listing(files: Mapping[str, str]) -> bytes:
    """DVC's object of a directory: the md5 of each file by its name."""
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return json.dumps(entries, sort_keys=True).encode("utf-8")


def directory_md5(files: Mapping[str, str]) -> str:
    """The hash of a directory, from the md5 of each file by its name."""
    return hashlib.md5(listing(files), usedforsecurity=False).hexdigest() + DIRECTORY


def remove(path: Path) -> None:
    """A file or a directory with all that is in it; of a link the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read(path: Path) -> Content:
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                md5.update(chunk)
                sha256.update(chunk)
                size += len(chunk)
    except OSError as error:
        reason = f"nothing that can be read ({error.strerror or error})"
        return Content(reason, reason, 0)
    return Content(md5.hexdigest(), sha256.hexdigest(), size)

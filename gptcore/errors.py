"""The errors a user can cause or meet, each with its exit code.

A message names the file or parameter, what was expected, what was found and what to do; the command line
prints the message alone, without a traceback.  The codes are those of BSD's sysexits.h, so that a shell
script can tell a typing error from a full disk.  Anything that is not one of these is a bug in this
project and keeps its traceback.

The operating system's own errors are such bugs too, but for those that only say that the disk is full, read-only,
forbidden or broken (``disk_error``): these can come from any line that writes, and one sentence is enough for all.
"""

import errno
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""How NumPy tells that a file could not be written to its end; it leaves out the system's number."""


class GPTCoreError(Exception):
    """Base of all errors that are reported without a traceback."""

    exit_code = 1


class ParameterError(GPTCoreError):
    """A parameter is unknown, missing, of the wrong type or out of range."""

    exit_code = 64


class DataError(GPTCoreError):
    """A file is missing, damaged, foreign, empty or undecodable."""

    exit_code = 65


class SourceUnavailableError(GPTCoreError):
    """A remote source did not answer, or not with what was asked for."""

    exit_code = 69


class NonFiniteLossError(GPTCoreError):
    """The loss, a gradient or a weight became infinite or not a number."""

    exit_code = 70

    def __init__(self, message: str, batches: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.batches = tuple(batches)
        """Numbers of the batches, counted from the training's first, that led to it; empty where that isn't known."""


class DiskError(GPTCoreError):
    """The disk is full or a path can't be written."""

    exit_code = 74


class BusyError(GPTCoreError):
    """Another process is doing this very work."""

    exit_code = 75


class Interrupted(GPTCoreError):
    """Somebody stopped the work; what was there before is intact."""

    exit_code = 130


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space" and "not permitted" into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        if (told := disk_error(error, path)) is None:
            raise
        raise told from error


def disk_error(error: OSError, path: Path | None = None) -> DiskError | None:
    """``error`` as a ``DiskError`` in one sentence, or None where it is about anything but the disk.

    ``path`` is what was being written, if the caller knows; else the error must name a file where it only says "not
    permitted", for that is also what a signal to another user's process gets.
    """
    where = error.filename2 or error.filename or path
    told = "the disk" if where is None else where if isinstance(where, str) else str(where)
    if error.errno in _FULL or (error.errno is None and _SHORT_WRITE.search(str(error))):
        free = shutil.disk_usage(_existing_parent(Path(path or (where if isinstance(where, str) else ".")))).free
        return DiskError(
            f"{path or told}: the disk is full or a limit on it is reached ({free / 1e6:.0f} MB free); what was there "
            "before is intact; make space and run the same command again"
        )
    if error.errno in _FORBIDDEN and where is not None:
        return DiskError(f"{told}: not permitted ({error.strerror}); check owner and permissions")
    if error.errno == errno.EIO:
        return DiskError(f"{told}: the disk does not work ({error.strerror}); look into the system's log")
    return None


def _existing_parent(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path

"""Can a run write where it must?  Asked before it starts, for DVC tells a read-only disk in words and codes of its own.

Looked at are the project's folder, DVC's, ``data`` and the folders in it; that is a system call each.  What lies
deeper, and a disk that fills up on the way, is told by whoever meets it.
"""

import errno
import os
from pathlib import Path

from gptcore.errors import disk_error

READ_ONLY = ("own", ".cache")
"""In ``data``: what may well be protected, for a run only reads it."""


def refuse_read_only(root: Path) -> None:
    """Raise a ``DiskError`` that names the first folder in which nothing can be written."""
    parts = sorted(path for path in (root / "data").glob("*") if path.is_dir() and path.name not in READ_ONLY)
    for folder in (root, root / ".dvc", root / "data", *parts):
        if folder.is_dir() and not os.access(folder, os.W_OK):
            number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
            if told := disk_error(OSError(number, os.strerror(number), str(folder))):
                raise told

"""The disk's errors as one sentence, from a disk that is really full or read-only; everything else stays a bug."""

import errno
import os
from pathlib import Path

import pytest

from gptcore.errors import DiskError, disk_error, disk_errors

ON_A_LIMITED_DISK = """
import resource, shutil, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from gptcore.errors import DiskError, disk_errors
big = Path("big"); big.write_bytes(bytes(20_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for write in (
    lambda: Path("a").write_bytes(bytes(20_000)),
    lambda: np.save("b.npy", np.zeros(10_000)),
    lambda: pq.write_table(pa.table({"x": np.random.default_rng(0).random(10_000)}), "c.parquet"),
    lambda: shutil.copyfile(big, "d"),
):
    try:
        with disk_errors(Path("target")):
            write()
        print("written")
    except DiskError as error:
        print(error.exit_code, error)
"""


def test_whatever_library_writes_a_full_disk_is_told_alike(tmp_path: Path, run_python) -> None:
    done = run_python("-c", ON_A_LIMITED_DISK, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert all(line.startswith("74 target: the disk is full") and "MB free" in line for line in lines), lines


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_forbidden_place_needs_a_name(number: int) -> None:
    told = disk_error(OSError(number, os.strerror(number), "data/metrics/x.json"))
    assert isinstance(told, DiskError)
    assert str(told).startswith(f"data/metrics/x.json: not permitted ({os.strerror(number)})")
    assert disk_error(OSError(number, os.strerror(number))) is None, "a signal to another's process is no disk"
    assert str(disk_error(OSError(number, "x"), Path("known"))).startswith("known: not permitted")


def test_a_broken_disk_and_everything_that_is_none() -> None:
    assert "does not work" in str(disk_error(OSError(errno.EIO, "Input/output error", "x")))
    for number in (errno.ENOENT, errno.EEXIST, errno.ECONNREFUSED, errno.EPIPE, errno.EINVAL):
        assert disk_error(OSError(number, "x", "y")) is None
    with pytest.raises(FileNotFoundError), disk_errors(Path("target")):
        Path("nowhere/at/all").read_bytes()
    assert disk_error(OSError("no number, no known words")) is None


def test_the_target_of_a_copy_is_named() -> None:
    error = OSError(errno.EROFS, "Read-only file system", "from", None, "to")
    assert str(disk_error(error)).startswith("to: not permitted")

"""Places that can't be written, each a mount that is really read-only: one message, exit code 74, nothing half-done."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.clone import Clone

MOUNT = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$PWD" && exec "$@"'


def _mounts() -> bool:
    """Whether this process may mount: root here, or in a namespace of its own."""
    return subprocess.run([*_unshare(), "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True).returncode == 0


def _unshare() -> list[str]:
    return ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not _mounts(), reason="NOT TESTED: this system lets nobody mount"),
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the stage download has run once, so that every folder it writes to is there."""
    made = Clone(tmp_path_factory.mktemp("read-only") / "project")
    cache = Path(os.environ["GPTCORE_CACHE"])
    made.more = {"GPTCORE_TRACKING": "off", "GPTCORE_OFFLINE": "1", "GPTCORE_CACHE": str(cache)}
    made.run("dvc", "repro", "download")
    return made


def refused(clone: Clone, place: Path, *command: str) -> str:
    """Run the command with ``place`` read-only; returns its last line, having checked all but the words."""
    before = clone.outs()
    done = subprocess.run(
        [*_unshare(), "sh", "-c", MOUNT, str(place), *command],
        cwd=clone.root, env=clone.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 74, told
    assert "Traceback" not in told
    assert told.count("error: ") == 1
    assert clone.outs() == before
    return told.strip().splitlines()[-1]


PLACES = ["data", "data/.scratch", "data/metrics", "data/views", "data/.provenance"]


@pytest.mark.parametrize("place", PLACES)
def test_a_stage(clone: Clone, place: str) -> None:
    stage = ("python", "-m", "pipeline", "download", "--own", "data/own", "--out", "data/raw")
    last = refused(clone, clone.root / place, *stage)
    assert "not permitted (Read-only file system); check owner and permissions" in last
    assert place in last


def test_the_download_cache(clone: Clone, tmp_path: Path) -> None:
    before, clone.more["GPTCORE_CACHE"] = clone.more["GPTCORE_CACHE"], str(tmp_path)
    try:
        stage = ("python", "-m", "pipeline", "download", "--own", "data/own", "--out", "data/raw")
        assert str(tmp_path) in refused(clone, tmp_path, *stage)
    finally:
        clone.more["GPTCORE_CACHE"] = before


@pytest.mark.parametrize("place", [".", ".dvc", "data", "data/metrics", "data/.scratch"])
@pytest.mark.parametrize("verb", ["repro", "flow"])
def test_a_run_does_not_begin(clone: Clone, place: str, verb: str) -> None:
    last = refused(clone, clone.root / place, "python", "-m", "pipeline", verb, "download")
    assert last == f"error: {clone.root / place}: not permitted (Read-only file system); check owner and permissions"


@pytest.mark.parametrize("verb", [["repro", "--profile", "tiny"], ["ui"], ["report"]])
def test_the_other_verbs(clone: Clone, verb: list[str]) -> None:
    assert "not permitted" in refused(clone, clone.root, "python", "-m", "pipeline", *verb)

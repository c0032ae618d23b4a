"""One clone with a tiny run for all the tests here that need a whole one."""

import os
import shutil

import pytest

from tests.clone import Clone


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """After a run on the tiny profile, committed; ``before`` is what it wrote."""
    made = Clone(tmp_path_factory.mktemp("clone") / "project")
    cache = made.root / "data" / ".cache" / "downloads"  # its own, for it will be damaged
    shutil.copytree(os.environ["GPTCORE_CACHE"], cache)
    made.more = {"GPTCORE_CACHE": str(cache), "GPTCORE_TRACKING": "off"}
    made.repro("--profile", "tiny")
    made.git("add", "-A")
    made.git("commit", "-qm", "run")
    made.before = made.outs()  # type: ignore[attr-defined]
    return made

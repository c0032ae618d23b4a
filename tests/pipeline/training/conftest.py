"""A folder with windows and a vocabulary in it, made once and copied for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.pipeline.training import tiny


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    tiny.prepare(root)
    return root


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test's working directory, a project without git and DVC; one thread, as in the processes it starts."""
    root = tmp_path / "project"
    shutil.copytree(prepared, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("DVC_ROOT", str(root))
    monkeypatch.setenv("GPTCORE_TRACKING", "off")
    monkeypatch.setenv("GPTCORE_THREADS", "1")
    threads = torch.get_num_threads()
    yield root
    torch.set_num_threads(threads)

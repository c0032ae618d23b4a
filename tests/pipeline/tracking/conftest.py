"""A folder of its own for each test of the trackers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.project import QUIET
from tests.pipeline.tracking.toy_trainer import Project

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root = tmp_path / "project"
    root.mkdir()
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "DVC_", "GPTCORE_", "GIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    project = Project(root, dict(os.environ))
    yield project
    for process in project.feeders():
        process.kill()

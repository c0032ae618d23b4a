"""Fixtures over `checkpoints.py`."""

from functools import partial
from pathlib import Path

import pytest

from gptcore.tokenizer import Tokenizer
from tests.pipeline.exporters.checkpoints import MakeCheckpoint, make_checkpoint, vocabulary


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return vocabulary()


@pytest.fixture
def checkpoint(tmp_path: Path) -> MakeCheckpoint:
    """``checkpoint(stage, **shape)``: the folder of a tiny one."""
    return partial(make_checkpoint, tmp_path)

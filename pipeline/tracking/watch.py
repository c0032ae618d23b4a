"""How far the training of another process is, as its saved states tell; read without PyTorch."""

import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from pipeline import project

STATES = "*/step-*/manifest.json"


def newest_state(command: Sequence[str]) -> str:
    """In words, of the stage that a command line runs; nothing where it is none that has saved a state."""
    stage = next((after for word, after in pairwise(command) if word == "pipeline"), "")
    if not stage.isidentifier():
        return ""
    saved = []
    for path in (project.scratch() / stage).glob(STATES):
        with suppress(OSError):  # pruned just now
            saved.append((path.stat().st_mtime, path.parent.name))
    if not saved:
        return ""
    when, name = max(saved)
    return f"its newest saved state is of step {int(name.removeprefix('step-'))}, {time.time() - when:.0f} s old"

"""What takes minutes to find out and is no training: kept in the stage's scratch, so that a run goes on after a kill.

Rejected: a pickle, which runs what it holds, and one file that grows, whose half-written end would have to be told.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptcore.artifact import commit, open_verified
from gptcore.errors import DataError

KIND = "kept for a run that goes on"
FILE = "found.json"


def once(place: Path, find: Callable[[], Any]) -> Any:
    """What lies at ``place``; if nothing whole does, what ``find`` returns is put there first.

    That is plain data.  It comes back as JSON has it (a tuple is a list), from the first run as from any later one:
    numbers to the last bit, keys in their order.
    """
    try:
        open_verified(place, KIND)
    except DataError:
        text = json.dumps(find(), allow_nan=False)
        with commit(place, kind=KIND, config={}) as draft:
            (draft / FILE).write_text(text, encoding="utf-8")
    return json.loads((place / FILE).read_text(encoding="utf-8"))

"""Parameter files that mean harm, through the check that comes before every run.

``params.check_all`` accepts, or raises a ``ParameterError`` whose message is readable and names the file.  Whether what
it accepts was meant can't be known; sizes beyond all reason and Python's own tags can't be.
"""

import re
from functools import cache, partial
from pathlib import Path

from pipeline.contract import params
from tests.clone import ROOT
from tests.faults import bounded
from tests.faults.campaign import Campaign, Scene
from tests.faults.hostile_yaml import MUST_BE_REFUSED, SPOILERS

LONGEST_MESSAGE = 20_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def trial(scene: Scene) -> str | None:
    spoil = SPOILERS[scene.number % len(SPOILERS)]
    path, canary = scene.folder / "params.yaml", scene.folder / "executed"
    path.write_bytes(spoil(scene.rng, _good(), str(canary)))
    ended = bounded.run(partial(params.check_all, path))
    problem = ended.problem()
    if canary.exists():
        problem = "code was executed"
    if problem is None:
        problem = _said(ended.refused, path) if ended.refused else _accepted(spoil in MUST_BE_REFUSED)
    return problem and f"{spoil.__name__}: {problem}{_difference(path)}"


def _accepted(must_be_refused: bool) -> str | None:
    return "accepted" if must_be_refused else None


def _said(message: str, path: Path) -> str | None:
    if str(path) not in message:
        return f"refused without the file's name: {message[:200]!r}"
    if len(message) > LONGEST_MESSAGE:
        return f"a message of {len(message)} characters"
    if found := _CONTROL.search(message):
        return f"the character {found[0]!r} reaches the terminal"
    return None


def _difference(path: Path) -> str:
    """The first line that isn't the good one's, for whoever repeats the trial."""
    good, found = _good().encode().splitlines(), path.read_bytes().splitlines()
    for number, line in enumerate(found, start=1):
        if number > len(good) or line != good[number - 1]:
            return f" (line {number}: {line[:80]!r})"
    return f" (after line {len(found)})"


@cache
def _good() -> str:
    """The project's own parameters; checked once, so that every stage is imported."""
    path = ROOT / params.PARAMS_FILE
    params.check_all(path)
    return path.read_text(encoding="utf-8")


CAMPAIGNS = [
    Campaign(
        "hostile-params",
        "a hostile params.yaml is refused in one message within 1 s and 512 MB, and executes nothing",
        full=300,
        selection=60,
        trial=trial,
    )
]

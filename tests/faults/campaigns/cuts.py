"""Kills between two system calls of the routines that replace a file, a directory, a training's state or a record.

What is left must be the former thing or the new one, readable, and the same work once more must end with the new one
and nothing lying about.
"""

import errno
import json
import warnings
from collections.abc import Callable
from pathlib import Path

from gptcore import checkpoint
from gptcore.artifact import commit, open_verified
from gptcore.errors import DataError
from tests.faults import cutting, routines
from tests.faults.campaign import Campaign
from tests.faults.cutting import Work, litter, routine


def _nothing(folder: Path) -> None: ...


def _old(name: str) -> Callable[[Path], None]:
    return lambda folder: routines.ROUTINES[name](folder, "old")


# --- a file ----------------------------------------------------------------------------------------------


def _file(folder: Path, versions: tuple[str, ...], may_miss: bool) -> str | None:
    path = folder / "into" / "file"
    if not path.exists():
        return None if may_miss else "the file is gone"
    known = [routines.content(version) for version in versions]
    return None if path.read_bytes() in known else f"{path.stat().st_size} bytes that were never written"


def _file_again(folder: Path) -> str | None:
    routines.replace_file(folder, "new")
    return _file(folder, ("new",), False) or litter(folder, "into/file")


def _json(folder: Path) -> str | None:
    try:
        found = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError) as error:
        return f"unreadable: {error}"
    return None if found["version"] in ("old", "new") else "another version"


def _json_again(folder: Path) -> str | None:
    routines.replace_json(folder, "new")
    found = json.loads((folder / "metrics.json").read_text())
    return litter(folder, "metrics.json") if found["version"] == "new" else "the former one"


FILES = [
    Work("file-new", _nothing, routine("file"), lambda folder: _file(folder, ("new",), True), _file_again),
    Work("file-over", _old("file"), routine("file"), lambda folder: _file(folder, ("old", "new"), False), _file_again),
    Work("json-over", _old("json"), routine("json"), _json, _json_again),
]

# --- a directory -----------------------------------------------------------------------------------------


def _version(folder: Path) -> str:
    """Of the artifact; raises ``DataError`` where it isn't whole."""
    version = open_verified(folder / "artifact", "toy").config["version"]
    assert (folder / "artifact" / "deep" / "tensors").read_bytes() == routines.content(version)
    return version


def _directory(folder: Path) -> str | None:
    try:
        return None if _version(folder) in ("old", "new") else "another version"
    except DataError as error:
        return f"unreadable: {error}"


def _directory_or_none(folder: Path) -> str | None:
    return _directory(folder) if (folder / "artifact").exists() else None


def _directory_or_hidden(folder: Path) -> str | None:
    """Where two directories can't change places in one step, there is a moment in which the former has no name.

    Whoever writes next brings it back first, even if the writing then fails.
    """
    if (folder / "artifact").exists():
        return _directory(folder)
    try:
        with commit(folder / "artifact", kind="toy", config={}):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        return _directory(folder)


def _directory_again(folder: Path) -> str | None:
    routines.replace_directory(folder, "new")
    return litter(folder, "artifact") if _version(folder) == "new" else "the former one"


DIRECTORIES = [
    Work("directory-new", _nothing, routine("directory"), _directory_or_none, _directory_again),
    Work("directory-over", _old("directory"), routine("directory"), _directory, _directory_again),
    Work(
        "directory-over-without-exchange",
        _old("directory"),
        routine("directory"),
        _directory_or_hidden,
        _directory_again,
        refusals=(("renameat2", errno.EINVAL),),
    ),
]

# --- a training's states ---------------------------------------------------------------------------------


def _state(folder: Path, steps: tuple[int, ...]) -> str | None:
    """The newest state is one of these steps, with that step's weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a damaged state would be passed over with a warning
        try:
            newest = checkpoint.latest(folder / "states")
        except UserWarning as warning:
            return str(warning)
    if newest is None:
        return "no state is left"
    model, optimizers = routines.model_at(0)
    step, facts = checkpoint.load(newest, model, optimizers)
    right = all(bool((parameter == step).all()) for parameter in model.parameters())
    return None if step in steps and facts == {"step": step} and right else f"the newest state is of step {step}"


def _state_again(folder: Path) -> str | None:
    routines.save_state(folder, "new")
    return _state(folder, (30,)) or litter(folder, "states/step-00000020", "states/step-00000030")


def _same_state_again(folder: Path) -> str | None:
    routines.save_state_again(folder, "new")
    return _state(folder, (20,)) or litter(folder, "states/step-00000010", "states/step-00000020")


STATES = [
    Work("state", _old("state"), routine("state"), lambda folder: _state(folder, (20, 30)), _state_again),
    Work(
        "state-again",
        _old("state-again"),
        routine("state-again"),
        lambda folder: _state(folder, (20,)),
        _same_state_again,
    ),
]

# --- a run's record --------------------------------------------------------------------------------------


def _recorded(folder: Path) -> str | None:
    """Go on with the record, if it did not end, and deliver it: every step once, the file, the end."""
    if not _finished(folder):
        routines.record_run(folder, "new")
    return _delivered(folder)


def _delivered(folder: Path) -> str | None:
    routines.deliver_runs(folder, "new")
    runs = [run for run in (folder / "store").iterdir() if run.is_dir()]
    if len(runs) != 1:
        return f"{len(runs)} runs in the store"
    points: dict[int, list[float]] = {}
    for path in sorted(runs[0].glob("*.json")):
        points.setdefault(int(path.name[:3]), []).append(json.loads(path.read_text())["loss"])
    if points != {step: [routines.VALUES["new"] * step] for step in routines.STEPS}:
        return f"the store has other points: {points}"
    if not (runs[0] / "artifact").exists() or (runs[0] / "artifact").read_bytes() != routines.ARTIFACT:
        return "the store lacks the file"
    if (runs[0] / "status").read_text() != "FINISHED":
        return "the store does not know that it ended"
    return litter(folder, "store", "kept.txt")


def _finished(folder: Path) -> bool:
    """Whether the last line of the record says so; none is there after it was delivered."""
    spools = list((folder / "spool").glob("*.jsonl"))
    return bool(spools) and spools[0].read_bytes().endswith(b'"FINISHED", "step": 13, "metrics": {}}\n')


def _lines_are_whole(folder: Path) -> str | None:
    """All but the last, which a kill may tear."""
    for spool in (folder / "spool").glob("*.jsonl"):
        for line in spool.read_bytes().split(b"\n")[:-1]:
            try:
                json.loads(line)
            except ValueError:
                return f"unreadable: {line[:80]!r}"
    return None


RECORDS = [
    Work("record", _nothing, routine("record"), _lines_are_whole, _recorded),
    Work("deliver", _old("deliver"), routine("deliver"), _lines_are_whole, _delivered),
]


def _campaign(name: str, promise: str, works: list[Work], full: int, selection: int) -> Campaign:
    return Campaign(
        name,
        promise,
        full,
        selection,
        lambda scene: cutting.trial(works, scene),
        lambda shared: cutting.prepare(works, shared),
        processes=True,
    )


CAMPAIGNS = [
    _campaign("cuts-files", "a killed write leaves the former file or the new one", FILES, 200, 12),
    _campaign("cuts-directories", "a killed commit leaves the former artifact or the new one", DIRECTORIES, 200, 20),
    _campaign("cuts-states", "a killed save leaves a training the state before or the new one", STATES, 200, 3),
    _campaign("cuts-records", "a killed record or delivery loses no point, doubles none", RECORDS, 200, 16),
]

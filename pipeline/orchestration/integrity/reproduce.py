"""``make reproduce``: the last commit, run anew from nothing, against the record that it holds.

A fresh clone in a folder of its own has no cache, no outs and no saved states: every stage runs.  Only downloads are
taken from here, for what they hold is verified by the sha256 that params.yaml pins, each time they are used.  What the
working tree has beyond the commit is not reproduced, and that is said.

The clone is deleted where the promise was kept; where it was not, it stays, to be looked into.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gptcore.errors import DataError
from pipeline.git import blob, git
from pipeline.orchestration import processes
from pipeline.orchestration.integrity import records
from pipeline.orchestration.integrity.outs import lock_here
from pipeline.orchestration.integrity.recording import DEFAULT
from pipeline.orchestration.same_bytes import DAMAGED, verdict
from pipeline.sources.pinned import default_cache

INTERRUPTED = 130
FORGOTTEN = ("DVC_ROOT", "PYTHONPATH")
"""What would lead the clone's processes back here."""


def reproduce(root: Path, profile: str = DEFAULT) -> int:
    """Clone, run, compare; prints the way and the verdict, returns its exit code, or that of a run that failed."""
    commit = git(root, "rev-parse", "HEAD").strip()
    if not blob(root, f"{records.FOLDER}/{profile}.json"):
        raise DataError(
            f"{records.FOLDER}/{profile}.json: not in the last commit, so there is nothing to compare with; "
            f"run the profile, then `python -m pipeline record --profile {profile}`, and commit it"
        )
    if git(root, "status", "--porcelain"):
        print("The working tree has changes that are not committed: they are not reproduced.", flush=True)
    place = Path(tempfile.mkdtemp(prefix="gptcore-reproduce-"))
    where = f"in {place}; downloads from {default_cache()}, each verified"
    print(f"Commit {commit[:12]}, profile {profile}, {where}.", flush=True)
    started = time.monotonic()
    try:
        code, text = _run(root, place, commit, profile), ""
    except KeyboardInterrupt:
        code, text = INTERRUPTED, ""
    if code in (0, 1, DAMAGED):  # the run ended, and its verdict may be "differs"
        text, code = _judged(place, profile, code)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    told = text or f"The run ended with exit code {code}: nothing was compared."
    print(f"\n{told}\nIt took {minutes} min {seconds} s.")
    if code == 0:
        shutil.rmtree(place)
    else:
        print(f"To look into: {place}")
    return code


def _run(root: Path, place: Path, commit: str, profile: str) -> int:
    """The clone's own pipeline, with what it prints going where ours does."""
    try:
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(root), str(place)], check=True)
        subprocess.run(["git", "checkout", "--quiet", "--detach", commit], cwd=place, check=True)
    except subprocess.CalledProcessError as error:
        raise DataError(f"{root}: git can't clone it (its words stand above; exit code {error.returncode})") from None
    environment = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
    environment |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")]),
        "GPTCORE_CACHE": str(default_cache().absolute()),
        "GPTCORE_TRACKING": "off",
    }
    named = [] if profile == DEFAULT else ["--profile", profile]
    command = [sys.executable, "-m", "pipeline", "repro", *named]
    with processes.group(command, cwd=place, env=environment) as process:  # a Ctrl-C takes all of it down
        return process.wait()


def _judged(place: Path, profile: str, code: int) -> tuple[str, int]:
    """The verdict on the clone; a record that does not fit what ran is no success."""
    lock = lock_here(place)
    wanted = next(record for record in records.load_all(place) if record.profile == profile)
    if lacking := sorted(wanted.stages.keys() - lock.keys()):
        return f"The run ended with exit code {code} before {lacking[0]} was made: nothing was compared.", code or 1
    record = wanted if wanted.is_of(place, lock) else None
    if record is None or record.profile != profile:
        return f"{records.FOLDER}/{profile}.json is of other parameters or data: record it anew.", 1
    found = verdict(place)
    return found.text, found.code or code

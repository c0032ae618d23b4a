"""``python -m pipeline exp …``: ``dvc exp run …`` that sees the user's own text in every kind of experiment.

What lies in ``data/own`` is ignored by git, for it may be private, and DVC depends on it all the same.  An experiment
in the workspace finds it there; one with ``--temp`` or ``--queue`` runs in a copy of what git tracks, and DVC brings
along only what ``--copy-paths`` names.  It can't be given the whole folder, for a part of it (the README) is in the
copy already ("File exists"), so this verb names each thing that git does not track.  DVC commits to an experiment what
git does not ignore, so the text stays out of git here too; a test reads every object.

A queued experiment is given the *names* when it is queued and the text as it is when it starts.

Rejected: reading the main folder's text from inside the copy (DVC would record the hash of a folder that nobody read).
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline import project
from pipeline.orchestration import processes
from pipeline.orchestration.dvc_program import COMMAND
from pipeline.sources import own_text


def run(arguments: Sequence[str]) -> int:
    """``dvc exp run ARGUMENTS`` in the project's folder; returns DVC's exit code."""
    root = project.root()
    own_text.refuse_unreadable(root / own_text.FOLDER)
    copied = [part for path in untracked(root, own_text.FOLDER) for part in ("--copy-paths", path)]
    command = [*COMMAND, "exp", "run", *copied, *arguments]
    return processes.foreground(command, cwd=root, env={**os.environ, **project.QUIET})


def untracked(root: Path, folder: Path) -> list[str]:
    """What git does not track in ``folder``, ignored or not: files, and directories whose every file is untracked."""
    command = ["git", "ls-files", "-z", "--others", "--directory", "--no-empty-directory", "--", str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    return [name for name in names if (root / name).is_file() or (root / name).is_dir()]

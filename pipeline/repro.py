"""``python -m pipeline repro``, which is all that ``make repro`` runs: ``dvc repro``, and what belongs
round it.

Before: the parameters are checked, all of them, so that nothing starts that can't end.  After: the
tracker's spool is delivered, the report is rendered, the verdict says whether the bytes are those that the
commit records, and the summary says where to look.  The work itself is DVC's; a plain ``dvc repro`` gives
the same files.

DVC inherits the terminal, so progress is drawn live and Ctrl-C reaches the stage, which saves its state.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gptcore.errors import GPTCoreError
from pipeline import environment, params, profiles, tracking
from pipeline.driver import dvc_program
from pipeline.report import render
from pipeline.summary import summary
from pipeline.verdict import verdict

_NOBODY = {"NAME": "gptcore", "EMAIL": "gptcore@localhost"}


def repro(targets: Sequence[str] = (), profile: str = "") -> int:
    """Bring ``targets`` (default: everything) up to date; returns the exit code."""
    root = environment.root()
    environment.quiet()
    params.check_all()
    command = [dvc_program(), "--wait-for-lock", *_what(targets, profile)]
    with tracking.execution(targets) as record:
        if code := _call(command, _git_identity()):
            record.fail(f"dvc ended with exit code {code}")
    tracking.deliver()
    if code:
        print(
            "\nStopped. The message of the stage that failed stands above; run the same command again to go on "
            "from where it was.",
            file=sys.stderr,
        )
        return code
    _report(root)
    found = verdict(root)
    print(f"\n{found.text}\n\n{summary(root)}")
    if profile:
        print(f"\nparams.yaml now holds the profile {profile!r}; `git checkout params.yaml dvc.lock` goes back.")
    return 0 if found.kept else 1


def _what(targets: Sequence[str], profile: str) -> list[str]:
    if not profile:
        return ["repro", *targets]
    settings = [part for override in profiles.overrides(profile) for part in ("--set-param", override)]
    return ["exp", "run", *settings, *targets]


def _call(command: Sequence[str], more: Mapping[str, str]) -> int:
    """Run to the end, even past a Ctrl-C: it has reached the stage too, which is saving."""
    with subprocess.Popen(command, env={**os.environ, **more}) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                print("stopping: waiting for the stage to save its state", file=sys.stderr)


def _git_identity() -> dict[str, str]:
    """An experiment is a commit outside all branches; where git knows no author, it gets ours."""
    known = subprocess.run(["git", "config", "user.email"], capture_output=True, check=False).returncode == 0
    return (
        {}
        if known
        else {f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER") for key, value in _NOBODY.items()}
    )


def _report(root: Path) -> None:
    """The report is a view: that it can't be drawn is said, and spoils nothing."""
    try:
        render(root, root / "data" / "report")
    except (GPTCoreError, OSError, ValueError, KeyError) as error:
        print(f"the report could not be rendered: {error!r}", file=sys.stderr)

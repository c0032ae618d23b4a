"""Where a stage's unfinished work lies until it is done: ``data/.scratch/<stage>/<fingerprint>``.

DVC deletes a stage's outs before it runs the stage again, so what a killed run is to go on from lives outside them.
The fingerprint covers the parameters, the content of the inputs, the code, the library versions and the machine class:
it is only ever continued by a run that would have reached it itself, bit for bit.  A lock on the directory keeps a
second process out, such as the orphan of a killed orchestrator.

There lie a training's saved states (``step-…``), what it keeps for itself until it or another of the stage is done
(``kept``, `gptcore.adapters.kept`), and what a stage has found out so far (`once.py`).

All but ``kept`` stays until another configuration of the stage has finished, so that a crash between the stage's end
and DVC's commit costs no work.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from gptcore.artifact import canonical_json, sha256_text
from gptcore.errors import BusyError
from gptcore.machine.identity import machine_class
from pipeline import locks, project
from pipeline.contract import provenance

FINISHED, KEPT = "finished", "kept"


@contextmanager
def directory(module: str, identity: Mapping[str, Any]) -> Iterator[Path]:
    """The locked directory of this very work; ``module`` is the stage's, with its package."""
    stage = module.rpartition(".")[2]
    everything = {**identity, "code": provenance.code_of(module), "machine_class": machine_class()}
    states = project.scratch() / stage / sha256_text(canonical_json(everything))[:16]
    with locks.held(states / "lock", wait=False) as mine:
        if mine is None:
            raise BusyError(
                f"{stage}: process {locks.holder(states / 'lock')} is doing this very work; "
                "wait for it, or end it and run the command again"
            )
        yield states


def finish(states: Path) -> None:
    """Note that this work is done, and drop what it ``kept`` and the directories of others that are.

    Those of interrupted ones stay: somebody may come back to them.
    """
    (states / FINISHED).touch()
    for each in states.parent.iterdir():
        if each != states and (each / FINISHED).exists():
            shutil.rmtree(each, ignore_errors=True)
        elif (each / KEPT).exists():
            _drop_kept(each, mine=each == states)


def _drop_kept(states: Path, mine: bool) -> None:
    """Delete what a training keeps for itself, which may be gigabytes and is computed anew, unless it is running."""
    with nullcontext() if mine else locks.held(states / "lock", wait=False) as lock:
        if mine or lock is not None:
            shutil.rmtree(states / KEPT, ignore_errors=True)

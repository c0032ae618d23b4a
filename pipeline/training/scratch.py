"""Where a training's saved states lie until it is done: ``data/.scratch/<stage>/<fingerprint>/step-…``.

DVC deletes a stage's outs before it runs the stage again, so the states live outside them.  The fingerprint covers
the parameters, the content of the inputs, the code, the library versions and the machine class: a state is only
ever continued by a run that would have reached it itself, bit for bit.  A lock on the directory keeps a second process
out, such as the orphan of a killed orchestrator.

Beside the states lies what the training keeps for itself (``kept``, `gptcore.adapters.kept`), until it
or another of the stage is done.

The last state stays until another configuration of the stage has finished, so that a crash between the stage's end
and DVC's commit costs no training.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from gptcore import checkpoint
from gptcore.artifact import canonical_json, sha256_text
from gptcore.errors import BusyError
from gptcore.machine.identity import machine_class
from pipeline import locks, project
from pipeline.contract import provenance

FINISHED, KEPT = "finished", "kept"


@contextmanager
def directory(module: str, identity: Mapping[str, Any]) -> Iterator[Path]:
    """The locked directory of this very training; ``module`` is the stage's, with its package."""
    stage = module.rpartition(".")[2]
    everything = {**identity, "code": provenance.code_of(module), "machine_class": machine_class()}
    states = project.scratch() / stage / sha256_text(canonical_json(everything))[:16]
    with locks.held(states / "lock", wait=False) as mine:
        if mine is None:
            raise BusyError(
                f"{stage}: process {locks.holder(states / 'lock')} is doing this very training; "
                "wait for it, or end it and run the command again"
            )
        yield states


def finish(states: Path) -> None:
    """Keep the last state of this training, and drop what else it kept and those of other finished ones.

    The states of other interrupted ones stay: somebody may come back to them.
    """
    checkpoint.prune(states, keep=1)
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

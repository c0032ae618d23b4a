"""A campaign: one kind of fault, done to the project again and again, each time a little differently.

A campaign says how often it is repeated in the full run and in the selection that CI runs, and has a function that
does one trial.  What a trial does follows from its seed alone, so a failed one is repeated by its number.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class NotTested(Exception):
    """Raised by ``prepare`` where this machine can't do the fault; in CI that is a failure."""


@dataclass(frozen=True)
class Scene:
    """What a trial is given."""

    rng: random.Random
    """Seeded with the campaign's name and the trial's number: every choice is drawn from it."""
    number: int
    """Of the trial, from 0; for campaigns that go through a list before they draw."""
    folder: Path
    """Empty, the trial's own; deleted after a trial that went well."""
    shared: Path
    """What ``prepare`` made: read, never written."""


@dataclass(frozen=True)
class Campaign:
    """A member of ``tests.faults.campaigns``: a module there has a list ``CAMPAIGNS`` of these."""

    name: str
    """In words with dashes: ``flips-checkpoint``."""
    promise: str
    """What must hold, in one line; a row of docs/reliability.md."""
    full: int
    """Trials of ``make faults``."""
    selection: int
    """Trials of CI, from the same numbers."""
    trial: Callable[[Scene], str | None]
    """Does one fault; None where the promise held, else what happened, in one line."""
    prepare: Callable[[Path], None] | None = None
    """Fills an empty folder once for all trials of this campaign that one process does."""
    processes: bool = False
    """Whether trials start processes of the pipeline (seconds each) or stay in this one (milliseconds)."""

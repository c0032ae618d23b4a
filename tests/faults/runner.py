"""Does the trials of campaigns, one after another, and says what came of them.

A trial's choices follow from campaign, number and seed alone, so any one is repeated by its number.  Trials that the
record holds already are not done again.  An exception in a trial is a failed trial: the campaign promises to know what
can happen.  The folder of a failed trial stays, for whoever looks for the reason.

Rejected: trials side by side (two trainings on two cores take longer than one after the other, and a kill at a drawn
moment would hit another moment), and a test of pytest for each (thousands of lines, nothing to go on with).
"""

import importlib
import os
import pkgutil
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from gptcore.errors import ParameterError
from tests.faults.campaign import Campaign, NotTested, Scene
from tests.faults.journal import Journal, Result

CAMPAIGNS = "tests.faults.campaigns"
LIMIT_SECONDS = 1200
SHOWN_CHARACTERS = 2000


def discover(package: str = CAMPAIGNS) -> list[Campaign]:
    """All campaigns of the package's modules, by module and then as the module lists them."""
    folder = importlib.import_module(package)
    names = sorted(found.name for found in pkgutil.iter_modules(folder.__path__))
    modules = [importlib.import_module(f"{package}.{name}") for name in names]
    return [campaign for module in modules for campaign in getattr(module, "CAMPAIGNS", [])]


def choose(campaigns: Sequence[Campaign], names: Sequence[str]) -> list[Campaign]:
    """Those of the names, all without any; raises ``ParameterError`` for a name that none has."""
    known = {campaign.name: campaign for campaign in campaigns}
    if unknown := [name for name in names if name not in known]:
        raise ParameterError(f"--campaign {unknown[0]}: expected one of {', '.join(known)}")
    return [known[name] for name in names] if names else list(campaigns)


def run(campaigns: Sequence[Campaign], journal: Journal, *, seed: int, selection: bool, work: Path) -> list[str]:
    """Do what isn't in the journal yet; returns why campaigns could not be done here."""
    reasons = []
    for campaign in campaigns:
        numbers = range(amount(campaign, selection))
        todo = [number for number in numbers if (campaign.name, number, seed) not in journal.results]
        try:
            _run(campaign, todo, journal, seed, work)
        except NotTested as error:
            reasons.append(f"{campaign.name}: {error}")
            print(f"NOT TESTED: {reasons[-1]}", file=sys.stderr, flush=True)
    return reasons


def amount(campaign: Campaign, selection: bool) -> int:
    return campaign.selection if selection else campaign.full


def _run(campaign: Campaign, numbers: Sequence[int], journal: Journal, seed: int, work: Path) -> None:
    if not numbers:
        return
    with prepared(campaign, work) as shared:
        for number in numbers:
            result = trial(campaign, number, seed, work, shared)
            journal.add(result)
            if campaign.processes or not result.ok:
                print(line(result), file=sys.stderr, flush=True)


@contextmanager
def prepared(campaign: Campaign, work: Path) -> Iterator[Path]:
    """What all trials of the campaign share."""
    shared = _empty(work / campaign.name / "shared")
    try:
        if campaign.prepare:
            campaign.prepare(shared)
        yield shared
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def trial(campaign: Campaign, number: int, seed: int, work: Path, shared: Path) -> Result:
    """One trial, in a folder of its own."""
    folder = _empty(work / campaign.name / str(number))
    began = time.perf_counter()
    try:
        with _limited(LIMIT_SECONDS):
            words = campaign.trial(Scene(random.Random(f"{campaign.name}/{number}/{seed}"), number, folder, shared))
    except NotTested:
        raise
    except Exception as error:
        traceback.print_exc()
        words = f"the trial itself ended with {type(error).__name__}: {error}"
    if words is None:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = round(time.perf_counter() - began, 3)
    return Result(campaign.name, number, seed, words is None, (words or "")[:SHOWN_CHARACTERS], seconds)


def line(result: Result) -> str:
    said = "held" if result.ok else f"FAILED: {result.words}"
    return f"{result.campaign} {result.number}: {said} ({result.seconds:.1f} s)"


def table(campaigns: Sequence[Campaign], journal: Journal, *, seed: int, selection: bool) -> str:
    """A row a campaign, and below it how to repeat what failed."""
    rows = [("campaign", "trials", "held", "failed", "seconds")]
    failed = []
    for campaign in campaigns:
        done = results(campaign, journal, seed)
        bad = [result for result in done if not result.ok]
        of = f"{len(done)} of {amount(campaign, selection)}"
        seconds = sum(result.seconds for result in done)
        rows.append((campaign.name, of, str(len(done) - len(bad)), str(len(bad)), f"{seconds:.0f}"))
        failed += bad
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    for result in failed:
        extra = f" --seed {seed}" if seed else ""
        lines += [
            "",
            f"{result.campaign} {result.number}: {result.words}",
            f"    python -m tests.faults --campaign {result.campaign} --number {result.number}{extra}",
        ]
    return "\n".join(lines)


def results(campaign: Campaign, journal: Journal, seed: int) -> list[Result]:
    found = [r for (name, _, own), r in journal.results.items() if (name, own) == (campaign.name, seed)]
    return sorted(found, key=lambda result: result.number)


def summary(campaigns: Sequence[Campaign], journal: Journal, seed: int, former: dict[str, object]) -> dict[str, object]:
    """For the docs: of each campaign its promise and the figures of its last run; others stay as they were."""
    commit = journal.code["commit"] + ("+" if journal.code["changed"] else "")
    rows = dict(former)
    for campaign in campaigns:
        if done := results(campaign, journal, seed):
            rows[campaign.name] = {
                "promise": campaign.promise,
                "trials": len(done),
                "planned": campaign.full,
                "failed": sum(not result.ok for result in done),
                "seconds": round(sum(result.seconds for result in done)),
                "date": journal.code["date"],
                "commit": commit,
            }
    return rows


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """A trial that hangs fails, and the others get their turn."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _empty(folder: Path) -> Path:
    """A new folder; what a killed run left there goes, even if a process of that run still writes into it."""
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.old-{os.getpid()}-{time.monotonic_ns()}")
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder

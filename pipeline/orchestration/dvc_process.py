"""Run stages through DVC, each in a process group that can be watched, timed and stopped whole.

``Driver.run`` drives ``dvc --wait-for-lock repro --single-item STAGE`` and tells whether DVC executed the
stage, took its outs from the cache or found nothing changed.  It is the part of the orchestration that
needs no orchestrator: plain functions and threads, 0.4 s of DVC's start-up a stage.

- ``--wait-for-lock``: without it a stage that succeeded is lost when another process holds DVC's lock for
  more than 3 s just then.
- A clock of its own: Prefect's timeout doesn't interrupt a task that waits for a process.
- A stage that another process is running already (the orphan of a killed run) is waited for, not fought.
- Limits are semaphores of this process.  That is enough: DVC lets only one process at a time work on the
  same stage of a checkout, so two flows in one folder already exclude each other, and a limit kept by a
  server would not exist without one.

Rejected: DVC's Python API in threads.  Its path locks can't tell threads apart, the stages' output goes to
the raw stdout, and a stage can't be stopped alone.
"""

import logging
import os
import re
import subprocess
import threading
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

import psutil

from gptcore.errors import BusyError, GPTCoreError
from pipeline import project
from pipeline.orchestration import dvc_program, processes
from pipeline.orchestration.dvc_files import mend_lock_table

# DVC's exit code is 255 for every failure: what happened is read from its words (pinned by a test).
SKIPPED = re.compile(r"^Stage '.*' didn't change, skipping")
CACHED = re.compile(r"^Stage '.*' is cached - skipping run")
STAGE_CODE = re.compile(r"^ERROR: failed to reproduce .* exited with (\d+)")
BUSY = re.compile(r"^ERROR: .* is busy, it is being blocked by")
BLOCKER = re.compile(r"^\s+\(PID (\d+)\)")
ADVICE = re.compile(
    r"^(To track the changes with git|\s+git add |To enable auto staging|\s+dvc config core|Use `dvc push`)"
)
FRAME = re.compile(r"^(Running stage |> |ERROR: failed to reproduce|Updating lock file|WARNING: |!$|\s*$)")

ALONE = frozenset({"train"})  # tags of which one stage at a time runs: two trainings share 2 cores badly
POLL_SECONDS = 0.2
BUSY_SECONDS = 2.0
TAIL_LINES = 40
TOLD_LINES = 5


class Outcome(StrEnum):
    """What DVC did with a stage."""

    EXECUTED = "Executed"
    CACHED = "Cached"
    UNCHANGED = "Unchanged"


class StageFailed(GPTCoreError):
    """A stage did not end well; carries its own exit code where it told one."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(StageFailed):
    """The run was stopped from outside."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: interrupted; run the same command again to go on", 130)


@dataclass
class Driver:
    """Runs stages for one execution of the pipeline; safe to use from several threads."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the stages' environment."""
    parallel: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Stages that run at once."""
    alone: Collection[str] = ALONE
    """Tags of which one stage at a time runs."""

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._places = threading.Semaphore(self.parallel)
        self._turns: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(1))
        for tag in self.alone:
            self._turns[tag]

    def run(
        self,
        stage: str,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        *,
        force: bool = False,
        timeout_seconds: float | None = None,
        tags: Iterable[str] = (),
    ) -> Outcome:
        """Reproduce one stage, whose inputs are up to date; its lines go to ``log`` as they come."""
        command = ["repro", "--single-item", *(["--force"] if force else []), stage]
        with self._turn(stage, tags):
            return self.dvc(stage, command, log, timeout_seconds=timeout_seconds)

    def dvc(
        self,
        name: str,
        arguments: Sequence[str],
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        *,
        timeout_seconds: float | None = None,
    ) -> Outcome:
        """Run ``dvc ARGUMENTS`` to its end; ``name`` is what messages call it."""
        deadline = time.monotonic() + timeout_seconds if timeout_seconds else float("inf")
        told = False
        ended: set[int] = set()
        while True:
            lines = Lines(log)
            mend_lock_table()
            try:
                code = self._attempt(name, arguments, lines, deadline, timeout_seconds)
            finally:
                mend_lock_table()  # a DVC that was stopped while writing it would keep out the next one
            if code == 0:
                return lines.outcome
            if not lines.busy and lines.blockers <= ended:
                raise StageFailed(f"{name}: {lines.reason}", lines.stage_code or 1)
            ended |= {pid for pid in lines.blockers if not _runs_dvc(pid)}  # may have ended since DVC looked: once more
            if lines.busy and not told:
                log.warning("%s: another process is at it; waiting for its end", name)
                told = True
            self._stopped.wait(BUSY_SECONDS)

    def stop(self) -> None:
        """Take down every stage that runs now and refuse those that would start."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def _attempt(
        self, name: str, arguments: Sequence[str], lines: "Lines", deadline: float, limit: float | None
    ) -> int:
        """One process from start to end; returns its exit code."""
        surroundings = {**os.environ, **project.QUIET, "PYTHONUNBUFFERED": "1", **self.environment}
        with processes.group(
            [*dvc_program.COMMAND, "--wait-for-lock", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=surroundings,
        ) as process:
            reader = threading.Thread(target=lines.read, args=(process.stdout,), daemon=True)
            reader.start()
            while process.poll() is None:
                if self.stopped:
                    raise Interrupted(name)
                if time.monotonic() > deadline:
                    raise StageFailed(f"{name}: took longer than its timeout_seconds: {limit:g}", 1)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
            reader.join(5.0)  # a detached grandchild may hold the pipe open for longer than we care
            return process.returncode

    @contextmanager
    def _turn(self, name: str, tags: Iterable[str]) -> Iterator[None]:
        """Hold the limited tags, then a place among the running stages; in one order, so none deadlocks."""
        limited = [self._turns[tag] for tag in sorted(set(tags) & set(self.alone))]
        with ExitStack() as held:
            for semaphore in [*limited, self._places]:
                while not semaphore.acquire(timeout=POLL_SECONDS):
                    if self.stopped:
                        raise Interrupted(name)
                held.callback(semaphore.release)
            if self.stopped:
                raise Interrupted(name)
            yield


class Lines:
    """The output of one ``dvc`` process: passed on line by line, and read for what it means."""

    def __init__(self, log: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> None:
        self._log = log
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.outcome = Outcome.EXECUTED
        self.stage_code: int | None = None

    def read(self, stream: Iterable[bytes]) -> None:
        for raw in stream:
            self.take(raw.decode(errors="replace").rstrip("\n").rsplit("\r", 1)[-1].rstrip())

    def take(self, line: str) -> None:
        if not line or ADVICE.match(line):
            return
        self._log.info(line)
        self._tail.append(line)
        if SKIPPED.match(line):
            self.outcome = Outcome.UNCHANGED
        elif CACHED.match(line):
            self.outcome = Outcome.CACHED
        elif code := STAGE_CODE.match(line):
            self.stage_code = int(code[1])

    @property
    def busy(self) -> bool:
        """Whether a living process holds what this one needs; a lock left by a dead one isn't waited for."""
        if self.stage_code == BusyError.exit_code:
            return True
        return any(map(_runs_dvc, self.blockers))

    @property
    def blockers(self) -> set[int]:
        """The processes that hold what this one needs, as DVC says."""
        if not any(BUSY.match(line) for line in self._tail):
            return set()
        return {int(pid[1]) for line in self._tail if (pid := BLOCKER.match(line))}

    @property
    def reason(self) -> str:
        """The last lines that say something: the stage's own words, or DVC's where the stage had none."""
        own = [line for line in self._tail if not FRAME.match(line)]
        return "\n".join((own or list(self._tail))[-TOLD_LINES:]) or "dvc ended without a word"


def _runs_dvc(pid: int) -> bool:
    """Whether ``pid`` is a live DVC, not a zombie nor an unrelated process that got the number since."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "dvc" in " ".join(process.cmdline())
    except psutil.Error:
        return False

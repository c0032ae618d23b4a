"""A worker process as its master sees it: started, told to work, asked for its peak memory, gone.

What it prints to its error output is kept in a temporary file and shown only if it fails.  A worker that
stays silent beyond its time is killed, so that one peer that hangs can't stop a run of half an hour.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.workloads import Workload
from gptcore import SPINS

ROOT = Path(__file__).resolve().parents[1]
OUR_OWN = ("gptcore", "limit", "command")
"""Libraries that need nothing beside the locked environment."""
SILENCE_SECONDS = 300.0


class WorkerError(Exception):
    """A worker ended or hung before its work was done."""


@dataclass(frozen=True)
class Sample:
    """What one order to a worker gave."""

    work: float
    """Tokens."""
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens/s."""
        return self.work / self.seconds


WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}
"""Importing gptcore sets these in this process; peers shall wait as their users' programs do."""


@dataclass(frozen=True)
class Bench:
    """What all workers of a run have in common."""

    threads: int
    peers: Path
    """Where the peers that are not in the lock are installed."""

    def environment(self, candidate: str) -> dict[str, str]:
        library = candidate.split("/")[0]
        path = [str(ROOT)] if library in OUR_OWN else [str(ROOT), str(self.peers)]
        inherited = {name: value for name, value in os.environ.items() if name not in WAITING}
        return {
            **inherited,
            **(WAITING if library == "gptcore" else {}),
            "PYTHONPATH": os.pathsep.join(path),
            "OMP_NUM_THREADS": str(self.threads),
            "GPTCORE_THREADS": str(self.threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }


class Worker:
    """``with Worker(bench, candidate, work) as worker: worker.run(3)``; ``peak_bytes`` holds after ``finish()``."""

    def __init__(self, bench: Bench, candidate: str, work: Workload) -> None:
        self.candidate = candidate
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", work.as_json(), candidate],
            env=bench.environment(candidate),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def wait_until_ready(self) -> None:
        self._answer()

    def run(self, units: int = 1) -> Sample:
        """Do ``units`` of work."""
        self._tell(f"{units}\n")
        return Sample(**self._answer())

    def finish(self) -> int:
        """End the worker; returns the most memory it held, in bytes."""
        if self._process.stdin is not None:
            self._process.stdin.close()
            self._process.stdin = None  # or communicate() would close it again
        peak = int(self._answer()["peak_bytes"])
        self._process.wait()  # it may have temporary files to remove
        return peak

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("ended") from None

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        alarm = threading.Timer(SILENCE_SECONDS, self._process.kill)
        alarm.start()
        try:
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
        if not line:
            raise self._failure("ended, or said nothing for too long and was ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failure(self, what: str) -> WorkerError:
        self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-1:] or ["it left no message"]
        return WorkerError(f"{self.candidate} {what}: {last[0]}")

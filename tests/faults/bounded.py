"""What hostile input does to a reader, watched from outside: one forked child a trial, with limits.

The child has everything imported that its parent has, so that what is measured is the reading: processor seconds (those
of the clock depend on who else computes), the largest resident memory above that at its start, and how it ended.  A
reader that hangs, eats memory or crashes the interpreter costs its child and nothing else.

Rejected: a fresh process a trial, which imports PyTorch for two seconds before it reads for two milliseconds.
"""

import contextlib
import faulthandler
import io
import json
import os
import resource
import selectors
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcore.errors import GPTCoreError
from tests.processor import slowness

SECONDS, MEGABYTES = 1.0, 512
"""Within which bad input is refused, after imports (seconds of the reference) and above the process's baseline."""
PATIENCE_SECONDS = 8.0
"""After which a child hangs: of the clock, without the time that it waited for a processor on a busy machine."""
ADDRESSES = 4 << 30
"""Bytes of address space that a child may have beyond its parent's: the machine must outlive its trials."""


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    value: Any
    """What the function returned, as JSON holds it; of anything else what Python shows of it."""
    refused: str
    """The message of one of our errors, else empty."""
    crash: str
    """Any other error as ``TypeError: … (file:line)``, a signal's name, or that it hung; else empty."""
    output: str
    """What was printed on both streams."""
    seconds: float
    megabytes: float

    def problem(self) -> str | None:
        """What was out of bounds, in words."""
        if self.crash:
            return self.crash
        if self.megabytes > MEGABYTES:
            return f"{self.megabytes:.0f} MB above the baseline, expected {MEGABYTES} at most"
        if self.seconds > SECONDS and self.seconds > (most := SECONDS * slowness()):
            return f"{self.seconds:.1f} s of processor time, expected {most:.1f} at most"
        return None


def run(function: Callable[[], Any]) -> Ended:
    """Call ``function`` in a child."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(reading)
        _child(function, writing)
    os.close(writing)
    told, hung = _received(reading, pid)
    _, status, usage = os.wait4(pid, 0)
    answer = json.loads(told) if told else {"crash": "" if hung else _death(status)}
    if hung:
        answer = {"crash": f"hung for {PATIENCE_SECONDS:g} s"}
    return Ended(
        value=answer.get("value"),
        refused=answer.get("refused", ""),
        crash=answer.get("crash", ""),
        output=answer.get("output", ""),
        seconds=usage.ru_utime + usage.ru_stime,
        megabytes=usage.ru_maxrss / 1024 - answer.get("baseline", 0.0),
    )


def _child(function: Callable[[], Any], writing: int) -> None:
    """Never returns."""
    answer: dict[str, Any] = {"baseline": _resident_megabytes()}
    printed = io.StringIO()
    try:
        _limit()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            answer["value"] = function()
    except GPTCoreError as error:
        answer["refused"] = str(error) or type(error).__name__
    except BaseException as error:
        answer["crash"] = _crash(error)
    try:
        content = json.dumps({**answer, "output": printed.getvalue()[:100_000]}, default=repr).encode()
        with open(writing, "wb") as pipe:
            pipe.write(content)
    finally:
        os._exit(0)


def _limit() -> None:
    faulthandler.disable()  # of whoever runs the trials: a crash is reported by its signal
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESSES, mapped + ADDRESSES))


def _received(reading: int, pid: int) -> tuple[bytes, bool]:
    """What the child tells until it closes the pipe, and whether it had to be killed."""
    began, told = time.monotonic(), b""
    with selectors.DefaultSelector() as waiting, open(reading, "rb", buffering=0) as pipe:
        waiting.register(pipe, selectors.EVENT_READ)
        while (left := PATIENCE_SECONDS + _starved_seconds(pid) - (time.monotonic() - began)) > 0:
            if not waiting.select(left):
                continue
            if not (chunk := pipe.read(1 << 16)):
                return told, False
            told += chunk
    os.kill(pid, signal.SIGKILL)
    return told, True


def _crash(error: BaseException) -> str:
    """The error and the innermost line of ours that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/gptcore/" in frame.filename or "/pipeline/" in frame.filename]
    where = f" ({Path(ours[-1].filename).name}: {ours[-1].name})" if ours else ""
    return f"{type(error).__name__}: {str(error)[:200]}{where}"


def _starved_seconds(pid: int) -> float:
    """For how long the process could have run and was not let; 0 where the kernel doesn't count it."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return "ended without a word"


def _resident_megabytes() -> float:
    """Of this process now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20

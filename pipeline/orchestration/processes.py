"""Process groups: start a command in one, and stop all of it.

A command that is run through a shell, DVC or a server's launcher is a tree of processes.  A signal to its
root alone leaves orphans that go on writing, so every command gets a session of its own and is signalled
as a group: SIGINT first, on which trainers save their state and DVC releases its locks, then SIGKILL.
``stop`` returns when the last member is gone.

One command keeps the terminal and the group of this process, so that Ctrl-C reaches all of it at once (``foreground``).
A signal to this process alone is passed on to what the command runs just then: the stage, which saves its state.

Zombies don't count as members: a container without an init process never reaps orphans, and waiting for
them would last for ever.  Rejected: SIGTERM to the root (DVC dies at once and its stage lives on).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import psutil

from pipeline import signals

GRACE_SECONDS = 20.0  # for a trainer to save its state
KILL_SECONDS = 60.0
POLL_SECONDS = 0.05
GROUP_SECONDS = 2.0  # after which a Ctrl-C that went to the whole group has done its work
INTERRUPTED = 130


@contextmanager
def group(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run ``command`` in a process group of its own; on leaving, nothing of the group is left."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        yield process
    finally:
        stop(process)


def foreground(command: Sequence[str], **options: Any) -> int:
    """Run ``command`` to its end, even past a Ctrl-C or SIGTERM: the stage that it runs is saving.

    Returns its exit code; 130 where it failed after such a signal.
    """
    told: set[int] = set()
    stopping = 0.0
    with signals.noted() as seen, subprocess.Popen(command, **options) as process:
        while process.poll() is None:
            if seen and not stopping:
                stopping = time.monotonic()
                print("stopping: waiting for the stage to save its state", file=sys.stderr, flush=True)
            if seen and (signal.SIGTERM in seen or time.monotonic() - stopping > GROUP_SECONDS):
                _interrupt_once(process, told)
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
        return INTERRUPTED if seen and process.returncode else process.returncode


def _interrupt_once(process: subprocess.Popen[Any], told: set[int]) -> None:
    """SIGINT to what ``process`` runs and has in its group, or to itself where that is nothing; each once.

    What it starts afterwards, such as the next stage if one has ended by itself just now, is told at the next call.
    """
    with suppress(psutil.Error, ProcessLookupError):
        below = psutil.Process(process.pid).children(recursive=True)
        group_of = os.getpgid(process.pid)
        running = [child.pid for child in below if _belongs(child, group_of)] or [process.pid]
        for pid in set(running) - told:
            told.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)


def stop(process: subprocess.Popen[Any]) -> None:
    """End the group that ``process`` leads: ask, wait, kill; returns when every member is gone."""
    for sign, patience in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        if not alive(process):
            break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(KeyboardInterrupt):  # a second Ctrl-C means: don't wait, kill
            _wait_until_gone(process, patience)
    process.wait()


def alive(process: subprocess.Popen[Any]) -> bool:
    """Whether any member of the group, children of a dead root included, still runs."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return any(_belongs(member, process.pid) for member in psutil.process_iter())


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM means what Ctrl-C means; so does SIGINT where a shell's ``&`` made this process ignore it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {sign: signal.signal(sign, interrupt) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _belongs(member: psutil.Process, leader: int) -> bool:
    try:
        return os.getpgid(member.pid) == leader and member.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def _wait_until_gone(process: subprocess.Popen[Any], patience: float) -> None:
    deadline = time.monotonic() + patience
    while alive(process) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)

"""Run a program, and kill it between two system calls or make one of them fail.

``trace`` runs a command and asks ``decide`` at each call that changes a file under a folder.  A first run with
nothing decided counts the calls; later runs strike at one of them.  Every process and thread that the command starts
is followed; one that outlives it is killed.  A stop costs 24 µs, and only the calls of `system_calls.CALLS`
stop; a call on a path elsewhere (Python's own files, a pipe) is let go uncounted.

While it runs, no other child of the calling thread may be waited for: the kernel reports them all in one place.
"""

import os
import platform
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.faults import system_calls as kernel

BEFORE, AFTER = "kill before", "kill after"
Decision = str | int | None
"""``BEFORE``, ``AFTER``, an errno with which the call fails instead of being done, or None: let it be."""


@dataclass(frozen=True)
class Call:
    """One call that changes a file."""

    number: int
    """From 0, in the order in which they were made."""
    name: str
    path: str
    """Relative to the folder; of two, that which lies in it, the second first."""

    @property
    def target(self) -> str:
        """What is written in the end, whatever the process and the run: a draft counts as what becomes of it."""
        return "/".join(_lasting(part) for part in Path(self.path).parts)


def _lasting(part: str) -> str:
    """A part of a path without what varies: process numbers, steps, hashes, random names."""
    part = re.sub(r"^\.(.+)\.(?:tmp|old)-\d+$", r"\1", part)
    part = re.sub(r"^\.tmp\w{6}$", "#", part)
    part = re.sub(r"^\.[\w-]{22}\.tmp$", ".#.tmp", part)
    return re.sub(r"\b(?:[0-9a-f]*\d[0-9a-f]*|[0-9a-f]{2}|[0-9A-Za-z]{20,})\b", "#", part)


@dataclass
class Traced:
    """How the program ended."""

    code: int = 0
    """Of the first process; a negative one is the signal that ended it."""
    output: str = ""
    calls: list[Call] = field(default_factory=list)
    struck: Call | None = None
    """The first call at which something was decided."""
    late: bool = False
    """It took longer than allowed and was killed."""


def trace(
    command: Sequence[str],
    folder: Path,
    decide: Callable[[Call], Decision] = lambda call: None,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    limit_seconds: float = 300.0,
) -> Traced:
    """Run ``command`` to its end; see `Decision` for what ``decide`` can do to it."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=kernel.stop_at_changes,
        )
        run = _Run(process.pid, folder.resolve(), decide)
        timer = threading.Timer(limit_seconds, run.end_late)
        timer.start()
        try:
            run.follow()
        finally:
            timer.cancel()
            run.kill()
            process.returncode = run.traced.code  # it was waited for here
        output.seek(0)
        run.traced.output = output.read().decode(errors="replace")
    return run.traced


@cache
def missing() -> str:
    """Why nothing can be traced here; empty where it can."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return f"expected Linux on x86-64, found {platform.system()} on {platform.machine()}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            traced = trace(["/bin/sh", "-c", "echo > a"], Path(folder), cwd=Path(folder), limit_seconds=30)
            return "" if traced.calls else f"ptrace sees no calls: {traced.output}"
    except (OSError, subprocess.SubprocessError) as error:
        return f"ptrace isn't permitted: {error}"


class _Run:
    """The traced processes and threads."""

    def __init__(self, first: int, folder: Path, decide: Callable[[Call], Decision]) -> None:
        self.traced = Traced()
        self._first, self._folder, self._decide = first, str(folder), decide
        self._alive = {first}
        self._seen = {first}

    def follow(self) -> None:
        os.waitpid(self._first, kernel.WAIT_FOR_ALL)  # it stands at the start of the new program
        kernel.ptrace(kernel.SETOPTIONS, self._first, kernel.OPTIONS)
        self._go_on(self._first)
        while self._alive:
            try:
                thread, status = os.waitpid(-1, kernel.WAIT_FOR_ALL)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                with suppress(ProcessLookupError):  # killed meanwhile: its end is reported next
                    self._stopped(thread, os.WSTOPSIG(status), status >> 16)
            else:
                self._ended(thread, os.waitstatus_to_exitcode(status))

    def kill(self) -> None:
        """All that is left."""
        for thread in self._alive:
            with suppress(ProcessLookupError):
                os.kill(thread, signal.SIGKILL)

    def end_late(self) -> None:
        self.traced.late = True
        with suppress(ProcessLookupError):
            os.kill(self._first, signal.SIGKILL)

    def _ended(self, thread: int, code: int) -> None:
        self._alive.discard(thread)
        if thread == self._first:
            self.traced.code = code
            self.kill()

    def _stopped(self, thread: int, sign: int, event: int) -> None:
        if event == kernel.EVENT_SECCOMP:
            self._at_call(thread)
        elif event in kernel.EVENTS_OF_BIRTH:
            born = kernel.ctypes.c_ulong()
            kernel.ptrace(kernel.GETEVENTMSG, thread, born)
            if born.value not in self._seen:
                self._alive.add(born.value)
            self._go_on(thread)
        elif sign == signal.SIGTRAP | 0x80:  # the call after which it is to be killed is done
            self.kill()
        elif event or thread not in self._seen:  # a new one stands at its start, or a program was replaced
            self._seen.add(thread)
            self._alive.add(thread)
            self._go_on(thread)
        else:
            self._go_on(thread, sign)

    def _at_call(self, thread: int) -> None:
        registers = kernel.Registers()
        kernel.ptrace(kernel.GETREGS, thread, registers)
        decision: Decision = None
        if (call := self._call(thread, registers)) is not None:
            self.traced.calls.append(call)
            decision = self._decide(call)
            if decision is not None and self.traced.struck is None:
                self.traced.struck = call
        if decision == BEFORE:
            self.kill()
        elif decision == AFTER:
            kernel.ptrace(kernel.SYSCALL, thread)
        else:
            if isinstance(decision, int):
                registers.orig_rax, registers.rax = 2**64 - 1, 2**64 - decision  # no such call; its result is -errno
                kernel.ptrace(kernel.SETREGS, thread, registers)
            self._go_on(thread)

    def _go_on(self, thread: int, sign: int = 0) -> None:
        kernel.ptrace(kernel.CONT, thread, sign)

    def _call(self, thread: int, registers: kernel.Registers) -> Call | None:
        """The call at which ``thread`` stands, if it changes something in the folder."""
        name, form, at = kernel.CALLS[registers.orig_rax]
        if name in kernel.FLAGS_OF_OPEN and not registers.argument(kernel.FLAGS_OF_OPEN[name]) & kernel.WRITING:
            return None
        for path in self._paths(thread, registers, form, at):
            if name.startswith("mkdir") and os.path.isdir(path):
                return None  # it changes nothing
            if path == self._folder or path.startswith(f"{self._folder}/"):
                return Call(len(self.traced.calls), name, os.path.relpath(path, self._folder))
        return None

    def _paths(self, thread: int, registers: kernel.Registers, form: str, at: int) -> list[str]:
        argument = [registers.argument(index) for index in range(6)]
        if form == kernel.DESCRIPTOR:
            return [_path_of(thread, argument[at])]
        if form == kernel.NAME:
            return [_join(thread, kernel.AT_FDCWD, _text(thread, argument[at]))]
        if form == kernel.AT and argument[at + 1] == 0:  # of utimensat: the descriptor's own
            return [_path_of(thread, argument[at])]
        if form == kernel.AT:
            return [_join(thread, argument[at], _text(thread, argument[at + 1]))]
        pairs = [(argument[2], argument[3]), (argument[0], argument[1])]
        if form == kernel.NAMES:
            pairs = [(kernel.AT_FDCWD, argument[1]), (kernel.AT_FDCWD, argument[0])]
        return [_join(thread, directory, _text(thread, address)) for directory, address in pairs]


def _path_of(thread: int, descriptor: int) -> str:
    """Of an open file; what a pipe has for one is no path."""
    try:
        return os.readlink(f"/proc/{thread}/fd/{descriptor & 0xFFFFFFFF}").removesuffix(" (deleted)")
    except OSError:
        return ""


def _join(thread: int, directory: int, name: str) -> str:
    if directory & 0xFFFFFFFF == kernel.AT_FDCWD & 0xFFFFFFFF:
        base = os.readlink(f"/proc/{thread}/cwd")
    else:
        base = _path_of(thread, directory)
    return os.path.normpath(os.path.join(base, name))


def _text(thread: int, address: int) -> str:
    """The string at ``address`` of the other process."""
    found = b""
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        while b"\0" not in found:
            found += memory.read(4096 - (address + len(found)) % 4096)  # to the end of the page: the next may be none
    return os.fsdecode(found.partition(b"\0")[0])

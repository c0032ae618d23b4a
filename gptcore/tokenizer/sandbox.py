"""Where chat templates run: in a process that can do nothing else (`renderer`), one for all of them.

It starts with the first template, in a fraction of a second, and ends with whoever asks it, however that ends: its
standard input is then at its end.  A template that takes too much time or memory, or crashes the interpreter, costs
this process; the next request starts another.

Rejected: the same in our own process, with a price for each loop, call and character (it was built, and a review found
a dozen ways around it, from a hash of nested tuples that crashes Python to what Jinja computes while it compiles), and
a list of harmless operations, by which published templates give other texts than in `transformers`.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from gptcore.untrusted import on_a_line

PROGRAM = Path(__file__).with_name("renderer.py")


class Sandbox:
    """``check`` and ``render``; both raise ``ValueError`` with what a template ended in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def check(self, template: str) -> None:
        """Whether it is a template at all."""
        self._ask({"template": template, "given": None, "most": 0})

    def render(self, template: str, given: dict[str, Any], most: int) -> str:
        """The text that it writes, of ``most`` characters."""
        return self._ask({"template": template, "given": given, "most": most})

    def _ask(self, request: dict[str, Any]) -> str:
        with self._lock:
            answer = self._answer(json.dumps(request).encode("ascii"))
        if "error" in answer:
            raise ValueError(on_a_line(answer["error"]))
        return answer["text"]

    def _answer(self, request: bytes) -> dict[str, str]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        except BaseException:  # Ctrl-C between question and answer: the next question must not get this answer
            self._end()
            raise
        if line.endswith(b"\n"):
            return json.loads(line)  # type: ignore[no-any-return]
        code = self._end()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return {"error": f"it takes too much time or memory: the process that renders it {how}"}

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that a terminal's Ctrl-C reaches who asks, not the answer
            )
        return self._process

    def _end(self) -> int:
        """The process's exit code."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        with process:
            return process.wait()

    def forget(self) -> None:
        """In a forked child: the process is its parent's."""
        self._lock, self._process = threading.Lock(), None


SANDBOX = Sandbox()
os.register_at_fork(after_in_child=SANDBOX.forget)

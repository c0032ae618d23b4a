"""Signals that end a run are noted, and acted on where it is safe: between two steps, or on somebody else's behalf."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted() -> Iterator[Sequence[int]]:
    """While inside, SIGINT and SIGTERM do nothing but appear in the sequence, in the order of their arrival.

    In a thread that isn't the main one, where Python allows no handlers, it stays empty.
    """
    seen: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        seen.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

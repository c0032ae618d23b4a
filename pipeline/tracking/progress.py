"""How far a long piece of work is: one line on stderr, of a training with steps, speed, loss and time left.

tqdm draws it; where stderr is no terminal (a log, Prefect) it writes a line every ten seconds instead of
redrawing.  A view: it changes no byte of any result.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tqdm import tqdm

PATIENCE_SECONDS = 2.0
"""Work of an unknown length that is done sooner shows nothing."""
STEPS = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} steps, {remaining} left, {rate_fmt}{postfix}"
PIECES = "{desc}: {percentage:3.0f}% of the activations that it keeps, {remaining} left"
MEASUREMENTS = "{desc}: {n_fmt} of {total_fmt} measured in {elapsed}{postfix}"
LABELS = "{desc}: {n_fmt} of {total_fmt} test documents classified, {remaining} left"
ANSWERS = "{desc}: {n_fmt} of {total_fmt} instructions answered, {remaining} left"
DOCUMENTS = "{desc}: {n_fmt} of {total_fmt} documents read{postfix}"


@contextmanager
def progress(stage: str, max_steps: int, start_step: int) -> Iterator["tqdm[None]"]:
    with _bar(STEPS, total=max_steps, initial=start_step, desc=stage, unit="step") as bar:
        yield bar


@contextmanager
def keeping(stage: str, pieces: int, done: int) -> Iterator["tqdm[None]"]:
    """Of what a training computes and keeps before its first step."""
    with _bar(PIECES, desc=stage, total=pieces, initial=done, delay=PATIENCE_SECONDS) as bar:
        yield bar


@contextmanager
def reading(stage: str, documents: int, then: str) -> Iterator[Callable[[int, bool], None]]:
    """Yield what is to be told how many documents have been read, and whether what comes ``then`` has begun."""
    with _bar(DOCUMENTS, total=documents, desc=stage, delay=PATIENCE_SECONDS, miniters=0) as bar:
        began = 0.0

        def watch(read: int, ended: bool) -> None:
            nonlocal began
            if ended:
                began = began or time.monotonic()
                bar.set_postfix_str(f"{then} for {time.monotonic() - began:.0f} s", refresh=False)
            bar.update(read - bar.n)

        yield watch


@contextmanager
def measuring(stage: str, measurements: int) -> Iterator[Callable[[str], None]]:
    """Yield what is to be told the name of each measurement when it begins; they take very different times."""
    with _bar(MEASUREMENTS, total=measurements, desc=stage) as bar:
        begun = count()

        def begin(name: str) -> None:
            bar.set_postfix_str(f"now {name}", refresh=False)
            bar.n = next(begun)
            bar.refresh()  # each has its line: minutes may pass until the next

        yield begin
        bar.set_postfix_str("", refresh=False)
        bar.n = next(begun)


@contextmanager
def classifying(stage: str, documents: int) -> Iterator["tqdm[None]"]:
    """Of the test documents, after a training."""
    with _bar(LABELS, desc=stage, total=documents, delay=PATIENCE_SECONDS, miniters=0) as bar:
        yield bar


@contextmanager
def answering(stage: str, instructions: int) -> Iterator["tqdm[None]"]:
    """Of what a model is asked; nothing stays on a terminal, where it may stand below a training's line."""
    with _bar(ANSWERS, desc=stage, total=instructions, delay=PATIENCE_SECONDS, miniters=0, leave=False) as bar:
        yield bar


def _bar(shown: str, **options: Any) -> "tqdm[None]":
    terminal = sys.stderr.isatty()
    return tqdm(
        file=sys.stderr,
        mininterval=0.5 if terminal else 10.0,
        maxinterval=1.0 if terminal else 10.0,
        ncols=100,
        bar_format=shown + ("" if terminal else "\n"),
        **options,
    )

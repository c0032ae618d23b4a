"""How far a training is: one line on stderr with steps, speed, loss and time left.

tqdm draws it; where stderr is no terminal (a log, Prefect) it writes a line every ten seconds instead of
redrawing.  A view: it changes no byte of any result.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(stage: str, max_steps: int, start_step: int) -> Iterator["tqdm[None]"]:
    terminal = sys.stderr.isatty()
    with tqdm(
        total=max_steps,
        initial=start_step,
        desc=stage,
        unit="step",
        file=sys.stderr,
        mininterval=0.5 if terminal else 10.0,
        maxinterval=1.0 if terminal else 10.0,
        ncols=100,
        bar_format="{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} steps, {remaining} left, {rate_fmt}{postfix}"
        + ("" if terminal else "\n"),
    ) as bar:
        yield bar

"""What to say of a training whose numbers are no numbers any more: where, of which documents, and what is left.

The loop and the saved states refuse such numbers (`gptcore.train`, `gptcore.checkpoint`); here their error gets what
only the stage knows.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gptcore.errors import NonFiniteLossError
from gptcore.objectives import Objective
from pipeline import project

NamesRow = Callable[[int], str]
"""Number of a window, document or example of the training data → what it is called."""
SHOWN_ROWS = 32


@contextmanager
def explained(stage: str, objective: Objective, name_of: NamesRow, newest: Callable[[], Path | None]) -> Iterator[None]:
    """Add the documents and the ``newest`` saved state to a ``NonFiniteLossError`` that passes through."""
    try:
        yield
    except NonFiniteLossError as error:
        told = [f"{stage}: {error}", *_rows(objective, name_of, error.batches), _left(newest())]
        raise NonFiniteLossError("\n".join(told), error.batches) from None


def check_row(row: Mapping[str, float]) -> None:
    """Refuse a row of the curve that something other than a finite number was measured for."""
    for name, value in row.items():
        if not math.isfinite(value):
            raise NonFiniteLossError(f"step {row['step']}: {name} {value}: expected a finite number; nothing was saved")


def _rows(objective: Objective, name_of: NamesRow, batches: tuple[int, ...]) -> list[str]:
    if not batches or not hasattr(objective, "indices"):
        return []
    rows = [int(row) for number in batches for row in objective.indices(number)]
    more = [f"and {len(rows) - SHOWN_ROWS} more"] if len(rows) > SHOWN_ROWS else []
    return [f"It read {'; '.join([*map(name_of, rows[:SHOWN_ROWS]), *more])}."]


def _left(newest: Path | None) -> str:
    if newest is None:
        return "No state was saved before it: the run starts afresh with other parameters or data."
    return (
        f"The last good state is {project.relative(newest)}. The same command goes on from there and, unless memory or "
        "processor erred, ends here again; with other parameters or data it starts afresh."
    )

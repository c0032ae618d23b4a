"""Where a stage puts what is worth watching."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Where a stage puts what is worth watching.  Losing all of it changes no result."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record the values of one step."""

    def artifact(self, path: Path, name: str) -> None:
        """Keep the small file at ``path`` (a plot, samples, a card) under ``name``, e.g. ``plots/loss.png``."""


class NullTracker:
    """Keeps nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def artifact(self, path: Path, name: str) -> None: ...

    def finish(self, metrics: Mapping[str, Any]) -> None: ...

    def fail(self, reason: str, status: str = "FAILED") -> None: ...

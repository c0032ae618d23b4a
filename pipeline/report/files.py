"""What else than views the report reads from a project folder; what isn't there reads as nothing.

Nothing is verified here: the stages do that before they use a file, and the report only shows.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from gptcore.errors import DataError
from pipeline.git import git, is_changed

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Files:
    """The files in a project folder that are no views."""

    root: Path

    def columns(self, file: str, names: Sequence[str]) -> "pd.DataFrame":
        """Those of the columns ``names`` that the CSV ``file`` has, as numbers; NaN where there is none.

        Raises:
            DataError: ``file`` is outside the project, missing or no CSV.
        """
        import pandas as pd

        try:
            frame = pd.read_csv(self._inside(file), usecols=lambda name: name in names)
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: not readable as CSV: {error}") from None
        return frame.apply(pd.to_numeric, errors="coerce")

    @cached_property
    def params(self) -> str:
        """The text of ``params.yaml``."""
        try:
            return (self.root / "params.yaml").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""

    @cached_property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """Stage → the record of its last run; one that can't be read is as good as none."""
        records: dict[str, dict[str, Any]] = {}
        for path in sorted((self.root / "data" / ".provenance").glob("*.json")):
            with suppress(OSError, ValueError, RecursionError):
                record = json.loads(path.read_text(encoding="utf-8"))
                records |= {path.stem: record} if isinstance(record, dict) else {}
        return records

    @cached_property
    def commit(self) -> str:
        """The commit that is checked out, with a ``+`` where tracked files differ from it."""
        if not (commit := git(self.root, "rev-parse", "--short=12", "HEAD").strip()):
            return ""
        return commit + ("+" if is_changed(self.root) else "")

    def _inside(self, file: str) -> Path:
        """Judged by the name alone: an out may be a link into a cache that lies elsewhere."""
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{file}: not in this project")
        return self.root / path

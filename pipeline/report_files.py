"""What the stages left in a project folder, for the report: each reader gives nothing where there is no file.

Nothing is verified here: the stages do that before they use a file, and the report only shows.
"""

import csv
import json
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gptcore.errors import DataError


@dataclass(frozen=True)
class Files:
    """What the stages left in a project folder; what isn't there reads as nothing."""

    root: Path

    def facts(self, *parts: str) -> dict[str, Any]:
        """The JSON object in ``data/<parts>``; empty where there is none."""
        return self._json(parts, dict)

    def entries(self, *parts: str) -> list[dict[str, Any]]:
        """The JSON list in ``data/<parts>``; empty where there is none."""
        return self._json(parts, list)

    def metrics(self, stage: str) -> dict[str, Any]:
        return self.facts("metrics", f"{stage}.json")

    def csv(self, name: str) -> list[dict[str, str]]:
        """The rows of ``data/plots/<name>.csv``."""
        path = self.root / "data" / "plots" / f"{name}.csv"
        if not path.is_file():
            return []
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def text(self, name: str) -> str:
        path = self.root / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @cached_property
    def params(self) -> dict[str, Any]:
        """``params.yaml`` as plain dictionaries."""
        from ruamel.yaml import YAML

        return YAML(typ="safe").load(self.text("params.yaml")) or {}

    @cached_property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """Stage → the record of its last run; one that can't be read is as good as none."""
        records = {}
        for path in sorted((self.root / "data" / ".provenance").glob("*.json")):
            with suppress(DataError):
                records[path.stem] = self.facts(".provenance", path.name)
        return records

    @cached_property
    def commit(self) -> str:
        """The commit that is checked out, with a ``+`` where tracked files differ from it."""
        if not (commit := self._git("rev-parse", "--short=12", "HEAD")):
            return ""
        return commit + ("+" if self._git("status", "--porcelain", "--untracked-files=no") else "")

    def _json(self, parts: tuple[str, ...], kind: type) -> Any:
        path = self.root.joinpath("data", *parts)
        if not path.is_file():
            return kind()
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{'/'.join(parts)}: not JSON: {error}") from None
        if not isinstance(value, kind):
            raise DataError(f"{'/'.join(parts)}: expected a {kind.__name__}, found a {type(value).__name__}")
        return value

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return ""

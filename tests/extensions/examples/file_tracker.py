"""A tracker: every run a folder with its lines, for those who would rather read files than start a server."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline import project
from pipeline.tracking.spool import Event


class FileRun:
    discarded = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def send(self, events: Sequence[Event], files: Path) -> None:
        for event in events:
            name = f"{event['time_ms']}-{event['event']}-{event.get('step', event.get('name', ''))}.json"
            (self.folder / name.replace("/", "_")).write_text(json.dumps(event))  # sent twice it is the same file
            if event["event"] == "end":
                self.end(event["status"], event["time_ms"])

    def end(self, status: str, time_ms: int) -> None:
        (self.folder / "status").write_text(status)


class FileStore:
    def __init__(self) -> None:
        self.home = project.root() / "runs"

    def find(self, start: Event) -> FileRun | None:
        folder = self.home / start["identity"]
        return FileRun(folder) if folder.is_dir() else None

    def create(self, start: Event) -> FileRun:
        (self.home / start["identity"]).mkdir(parents=True)
        return FileRun(self.home / start["identity"])

"""The routines that replace a file or a directory, each as a small piece of work that is cut at every place.

``python -m tests.faults.routines NAME FOLDER`` does one in a process of its own, which the tracer kills; the campaign
does the same work in its own process for the former state, and to see whether it goes on after the cut.  Each is told
apart from its former run by a version, ``old`` or ``new``.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gptcore.artifact import commit, write_atomically, write_json
from gptcore.errors import GPTCoreError

STEPS = range(1, 13)
ARTIFACT = b"what the run leaves behind\n"
VALUES = {"old": 1.5, "new": 2.5}


def content(version: str) -> bytes:
    return version.encode() * 50_000


def replace_file(folder: Path, version: str) -> None:
    write_atomically(folder / "into" / "file", content(version))


def replace_json(folder: Path, version: str) -> None:
    write_json(folder / "metrics.json", {"version": version, "many": list(range(1000))})


def replace_directory(folder: Path, version: str) -> None:
    with commit(folder / "artifact", kind="toy", config={"version": version}) as draft:
        (draft / "deep").mkdir()
        (draft / "deep" / "tensors").write_bytes(content(version))
        (draft / "small").write_text(version)


def save_state(folder: Path, version: str) -> None:
    """Training states: ``old`` leaves those of steps 10 and 20, ``new`` adds that of 30 and drops that of 10."""
    from gptcore import checkpoint

    for step in {"old": (10, 20), "new": (30,)}[version]:
        checkpoint.save(folder / "states", *model_at(step), step, {"step": step})
        checkpoint.prune(folder / "states", keep=2)


def save_state_again(folder: Path, version: str) -> None:
    """The state of a step that is there already, as after a resumption from an older one."""
    from gptcore import checkpoint

    for step in {"old": (10, 20), "new": (20,)}[version]:
        checkpoint.save(folder / "states", *model_at(step), step, {"step": step})


def model_at(step: int) -> tuple[Any, Any]:
    """A model whose weights say the step, and its optimizers, which have done one."""
    import torch

    from gptcore.optim import OptimConfig, build_optimizers

    model = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Linear(32, 32))
    optimizers = build_optimizers(model, OptimConfig())
    model(torch.ones(1, 32)).sum().backward()
    optimizers.step()
    for parameter in model.parameters():
        parameter.data.fill_(float(step))
    return model, optimizers


def record_run(folder: Path, version: str) -> None:
    """Write a run's spool; again after a cut, it goes on with the same one."""
    from pipeline.tracking.spool import SpoolWriter

    writer = SpoolWriter(folder / "spool", "toy", {"identity": "i", "name": "toy", "resumable": True})
    for step in STEPS:
        writer.metrics({"loss": VALUES[version] * step}, step)
    (folder / "kept.txt").write_bytes(ARTIFACT)
    writer.artifact(folder / "kept.txt", "plots/kept.txt")
    writer.append("end", status="FINISHED", step=len(STEPS) + 1, metrics={})
    writer.close()


def deliver_runs(folder: Path, version: str) -> None:
    """Carry the spools to a store of files.  ``old`` only writes what ``new`` delivers."""
    from pipeline.tracking.delivery import Feeder

    if version == "old":
        record_run(folder, "new")
    elif reasons := Feeder(folder / "spool", lambda: FileStore(folder / "store")).deliver():
        raise RuntimeError(reasons[0])


class FileStore:
    """Every run a folder, every point a file: what is sent twice is the same file."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def find(self, start: dict[str, Any]) -> "FileRun | None":
        found = FileRun(self.home / start["identity"])
        return found if found.folder.is_dir() else None

    def create(self, start: dict[str, Any]) -> "FileRun":
        (self.home / start["identity"]).mkdir(parents=True)
        return FileRun(self.home / start["identity"])


class FileRun:
    """One of them; see ``delivery.Run``."""

    discarded = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def send(self, events: Sequence[dict[str, Any]], files: Path) -> None:
        for event in events:
            if event["event"] == "metrics":
                name = f"{event['step']:03d}-{event['time_ms']}.json"
                (self.folder / name).write_text(json.dumps(event["values"]))
            elif event["event"] == "artifact" and (files / event["name"]).exists():
                (self.folder / "artifact").write_bytes((files / event["name"]).read_bytes())
            elif event["event"] == "end":
                self.end(event["status"], event["time_ms"])

    def end(self, status: str, time_ms: int) -> None:
        (self.folder / "status").write_text(status)


ROUTINES: dict[str, Callable[[Path, str], None]] = {
    "file": replace_file,
    "json": replace_json,
    "directory": replace_directory,
    "state": save_state,
    "state-again": save_state_again,
    "record": record_run,
    "deliver": deliver_runs,
}

if __name__ == "__main__":
    try:
        ROUTINES[sys.argv[1]](Path(sys.argv[2]), "new")
    except GPTCoreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

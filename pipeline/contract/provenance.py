"""How an artifact came to be: everything that must not be inside it.

An artifact's manifest holds only what determines its bytes.  When, where, how fast, by which commit and on
which machine it was made goes to ``data/.provenance/<stage>.json``, which git and DVC ignore, and to
MLflow's tags.

The *fingerprint* of a run is the hash of all that decides its result: parameters, content of the inputs,
code, and the versions that can change numbers.  A killed training resumes only under its own fingerprint.
"""

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptcore.artifact import canonical_json, sha256_text, write_atomically, write_json
from pipeline import project
from pipeline.contract.source_code import closure_hash

RECORDS = Path("data/.provenance")
TRACES = RECORDS / "traces"
"""Of trainings, the trace of their states (`training/trace.py`), as ``<stage>.jsonl``."""

_NOTES: dict[str, Any] = {}
_TRACES: list[bytes] = []
_RUNNING: list["Execution"] = []


def note(**facts: Any) -> None:
    """Add to this process's record how the stage ran: tokens/s, machine class, the step it resumed from."""
    _NOTES.update(facts)


def keep_trace(content: bytes) -> None:
    """Keep the trace of this process's training beside its record."""
    _TRACES.append(content)


def code_of(module: str) -> str:
    """Hash of the files that the stage in ``module`` is made of: what its execution says, else what it imports."""
    return _RUNNING[-1].code if _RUNNING else closure_hash(module)


@dataclass(frozen=True)
class Execution:
    """One execution of a stage."""

    stage: str
    code: str
    """Hash of the files and versions that the stage is made of (`source_code`)."""
    params: dict[str, Any]
    """By section."""
    inputs: dict[str, str]
    """Content hash by name."""
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        _RUNNING.append(self)

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides the bytes of a stage's outs on one machine class."""
        decides = {"stage": self.stage, "params": self.params, "inputs": self.inputs, "code": self.code}
        return sha256_text(canonical_json(decides))

    def end(self, name: str, metrics: Mapping[str, Any]) -> None:
        """Write the provenance record of this run, and its trace where it trained."""
        record = {
            "stage": name,
            "fingerprint": self.fingerprint,
            "inputs": self.inputs,
            "params": self.params,
            "code": self.code,
            "metrics": metrics,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            "seconds": round(time.time() - self.started, 2),
            "peak_memory_mb": _peak_memory_mb(),
            **_NOTES,
        }
        for content in _TRACES[-1:]:
            write_atomically(project.root() / TRACES / f"{name}.jsonl", content)
            record["trace"] = sha256_text(content.decode())
        write_json(project.root() / RECORDS / f"{name}.json", record)


def _peak_memory_mb() -> int:
    """Largest resident memory of this process so far; Linux counts it in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))

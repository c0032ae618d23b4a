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

from gptcore.artifact import MANIFEST, canonical_json, read_manifest, sha256_file, sha256_text, write_json
from gptcore.errors import DataError
from pipeline import environment
from pipeline.code import code_hash

_NOTES: dict[str, Any] = {}


def note(**facts: Any) -> None:
    """Add to this process's record how the stage ran: tokens/s, machine class, the step it resumed from."""
    _NOTES.update(facts)


@dataclass(frozen=True)
class Run:
    """One execution of a stage."""

    stage: str
    fingerprint: str
    params: dict[str, Any]
    inputs: dict[str, str]
    started: float = field(default_factory=time.time)

    @classmethod
    def begin(cls, stage: str, configs: dict[str, Any], inputs: dict[str, str]) -> "Run":
        sections = {stage if name == "cfg" else name: values for name, values in configs.items()}
        return cls(stage, fingerprint(stage, sections, inputs), sections, inputs)

    def tags(self) -> dict[str, str]:
        return {"code": code_hash(f"pipeline.stages.{self.stage}")[:16]}

    def end(self, name: str, metrics: Mapping[str, Any]) -> None:
        """Write the provenance record of this run."""
        record = {
            "stage": name,
            "fingerprint": self.fingerprint,
            "inputs": self.inputs,
            "params": self.params,
            "metrics": metrics,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            "seconds": round(time.time() - self.started, 2),
            "peak_memory_mb": _peak_memory_mb(),
            **_NOTES,
        }
        write_json(environment.root() / "data" / ".provenance" / f"{name}.json", record)


def _peak_memory_mb() -> int:
    """Largest resident memory of this process so far; Linux counts it in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def fingerprint(stage: str, sections: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """sha256 of all that decides the bytes of a stage's outs on one machine class."""
    code = code_hash(f"pipeline.stages.{stage}")
    return sha256_text(canonical_json({"stage": stage, "params": sections, "inputs": inputs, "code": code}))


def input_hashes(paths: Mapping[str, Path]) -> dict[str, str]:
    """Content hash of each input: its manifest's, the file's, or that of a plain directory's files."""
    return {name: _content_hash(path) for name, path in paths.items()}


def _content_hash(path: Path) -> str:
    if (path / MANIFEST).is_file():
        return read_manifest(path).content_hash
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return sha256_text(canonical_json({p.relative_to(path).as_posix(): sha256_file(p) for p in files}))
    raise DataError(f"{path}: missing; run the stage that makes it first (`dvc repro`)")

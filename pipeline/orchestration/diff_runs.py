"""Where two runs parted: the first step and the first tensor that differ, and what is known to be different.

A run leaves a record a stage (`contract/provenance.py`): parameters, hashes of the inputs, of the code, the machine
class and the metrics.  A training leaves its trace beside it (`training/trace.py`).  Comparing them reads kilobytes:
no weights are needed, and a run on another machine is compared by its folder ``data/.provenance`` alone.

Runs are *equal* where metrics and traces are, however they came to be.  A trace has every fiftieth step; to learn the
very step, run both with ``GPTCORE_TRACE_STEPS=1``.

Rejected: comparing the losses.  They stay equal to the last bit long after the weights are not.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcore.artifact import sha256_file
from gptcore.errors import DataError, ParameterError
from pipeline.contract.provenance import RECORDS, TRACES
from pipeline.store.plain import flatten
from pipeline.training import trace
from pipeline.training.trace import Entry

METRICS = Path("data/metrics")
SHOWN = 5
_NOWHERE = "(nothing)"


@dataclass(frozen=True)
class Difference:
    """What to tell of two runs, and whether they are equal."""

    text: str
    equal: bool


def compare(one: Path, other: Path) -> Difference:
    """Two project folders that have run, or two folders of records; A and B in the text."""
    a, b = _Run.open(one), _Run.open(other)
    lines, differing = [], []
    for name in dict.fromkeys([*a.records, *b.records]):
        if name not in a.records or name not in b.records:
            differing.append(name)
            lines.append(f"{name}: only {'A' if name in a.records else 'B'} has run it")
            continue
        told = list(_results(name, a, b))
        why = list(_recipe(a.records[name], b.records[name]))
        if told:
            differing.append(name)
            lines += [
                *told,
                *(why or ["  params, inputs, code and machine class are the same: it is not reproducible"]),
            ]
        elif why:
            lines += [f"{name}: the same results, although the recipes differ", *why]
    lines += [*a.notes("A"), *b.notes("B")]
    traced = sum("trace" in record for record in a.records.values())
    if differing:
        lines.append(f"Different: {', '.join(differing)} (of {len(a.records.keys() | b.records.keys())} stages).")
    else:
        lines.append(f"Equal: {len(a.records)} stages, {traced} of them trainings whose states were compared.")
    return Difference("\n".join(lines), not differing)


@dataclass(frozen=True)
class _Run:
    """The records of one run, in the order in which its stages began."""

    path: Path
    """The folder of records."""
    project: Path | None
    records: dict[str, dict[str, Any]]

    @classmethod
    def open(cls, path: Path) -> "_Run":
        for folder, project in ((path / RECORDS, path), (path, None)):
            files = sorted(folder.glob("*.json"))
            if found := {file.stem: record for file in files if "fingerprint" in (record := _read(file))}:
                in_order = sorted(found.items(), key=lambda item: str(item[1].get("started")))
                return cls(folder, project, dict(in_order))
        raise ParameterError(
            f"{path}: expected the folder of a project that has run, with records in {RECORDS}, or such a folder; "
            "found neither"
        )

    def entries(self, name: str) -> list[Entry]:
        """The trace of a training."""
        path = self.path / TRACES.relative_to(RECORDS) / f"{name}.jsonl"
        try:
            if sha256_file(path) != self.records[name]["trace"]:
                raise DataError(f"{path}: damaged, or of another run than the record {name}.json; run {name} again")
            return trace.read(path.read_bytes(), str(path))
        except OSError as error:
            raise DataError(f"{path}: can't be read ({error.strerror}); run {name} again") from None

    def notes(self, label: str) -> Iterator[str]:
        """Stages whose files came from DVC's cache after another run was recorded."""
        for name, record in self.records.items():
            path = self.project / METRICS / f"{name}.json" if self.project else None
            if path and path.is_file() and _read(path) != record.get("metrics"):
                yield f"{name}: the record of {label} is of another run than {path}; run it again with --force"


def _results(name: str, a: _Run, b: _Run) -> Iterator[str]:
    """What differs in what a stage gave; nothing where nothing does."""
    one, other = a.records[name], b.records[name]
    if "trace" in one and "trace" in other:
        if (found := _first(a.entries(name), b.entries(name))) is not None:
            yield f"{name}: {found}"
            return
    elif "trace" in one or "trace" in other:
        yield f"{name}: only {'A' if 'trace' in one else 'B'} has a trace of it; run it again with --force"
        return
    if differing := list(_unequal(_measured(one), _measured(other))):
        yield f"{name}: the metrics differ: {_some(differing)}"


def _measured(record: dict[str, Any]) -> dict[str, Any]:
    """The metrics, less what only says where they were measured."""
    return {name: value for name, value in dict(record.get("metrics", {})).items() if name != "machine_class"}


def _first(a: list[Entry], b: list[Entry]) -> str | None:
    """The first step and tensor in which two traces differ."""
    others, last = {entry.step: entry for entry in b}, None
    for entry in a:
        if (other := others.get(entry.step)) is None:
            continue
        if entry.state != other.state:
            names = dict.fromkeys([*entry.tensors, *other.tensors])
            differing = [name for name in names if entry.tensors.get(name) != other.tensors.get(name)]
            before = f", equal at step {last}" if last is not None else ""
            return (
                f"the states first differ at step {entry.step}{before}: first in {differing[0]}, in all in "
                f"{len(differing)} of {len(names)} tensors"
            )
        last = entry.step
    if a[-1].step != b[-1].step:
        return f"equal up to step {last}, but A ends at step {a[-1].step} and B at step {b[-1].step}"
    return None


def _recipe(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """What of all that decides a stage's bytes differs."""
    for part in ("params", "inputs"):
        if differing := list(_unequal(one.get(part, {}), other.get(part, {}))):
            yield f"  {part}: {_some(differing)}"
    for part, words in (("code", "code or library versions"), ("machine_class", "machine class")):
        if one.get(part) != other.get(part):
            yield f"  {words}: {_short(one.get(part))} in A, {_short(other.get(part))} in B"


def _unequal(one: Any, other: Any) -> Iterator[str]:
    ours, theirs = flatten(one), flatten(other)
    for key in dict.fromkeys([*ours, *theirs]):
        if ours.get(key, _NOWHERE) != theirs.get(key, _NOWHERE):
            yield f"{key} {_short(ours.get(key, _NOWHERE))} in A, {_short(theirs.get(key, _NOWHERE))} in B"


def _short(value: object) -> str:
    text = _NOWHERE if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}…"


def _some(found: list[str]) -> str:
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "; ".join([*found[:SHOWN], *more])


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: expected a JSON object ({error}); run {path.stem} again") from None

"""On which class of machine bytes were made (`gptcore.machine.identity`): as the last commit says, and here."""

import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.git import at_head, git

METRICS, PROVENANCE = "data/metrics", "data/.provenance"
UNKNOWN = "unknown"


def class_at_head(root: Path) -> str:
    """What the last commit's metrics state."""
    listed = git(root, "ls-tree", "--name-only", "HEAD", f"{METRICS}/").split()
    return _first_class(at_head(root, path) for path in sorted(listed))


def class_here(root: Path, stages: Iterable[str] = ()) -> str:
    """What the first of ``stages`` noted when it ran here, else any stage, else measured."""
    own = [root / PROVENANCE / f"{stage.replace('@', '-')}.json" for stage in stages]
    records = [path for path in [*own, *sorted((root / PROVENANCE).glob("*.json"))] if path.is_file()]
    if (found := _first_class(path.read_text(encoding="utf-8") for path in records)) != UNKNOWN:
        return found
    from gptcore import runtime
    from gptcore.machine.identity import machine_class

    runtime.configure()
    return machine_class()


def _first_class(records: Iterable[str]) -> str:
    return next(filter(None, map(_class_of, records)), UNKNOWN)


def _class_of(record: str) -> str:
    """The machine class that a metrics or provenance file states; empty where it states none."""
    try:
        return str(json.loads(record)["machine_class"] or "")
    except (ValueError, KeyError, TypeError):
        return ""

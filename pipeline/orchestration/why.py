"""``python -m pipeline why [STAGE]``: in words, why a stage would run or would not.

DVC decides, and says of each stage which of its dependencies and outputs changed, but for a whole section of
parameters or a whole room of code only *that* it did.  dvc.lock still has the old parameters, so they are compared
value by value here; of a room git knows which files differ from the commit that recorded dvc.lock last (a room that
was edited, run and never committed is named as a whole).

A stage below one that will run is stale only if that one writes something new, which nobody knows before: "may run".
Even what "will run" may come back from DVC's cache of runs, if the same was run before.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.contract import params
from pipeline.git import git
from pipeline.orchestration import dvc_files, dvc_graph
from pipeline.orchestration.dvc_graph import StageNode
from pipeline.store.plain import flatten

NOTHING = "Nothing changed: no stage would run."
WORDS = {"modified": "changed", "deleted": "is missing", "new": "is new", "not in cache": "is not in DVC's cache"}


def explain(root: Path, targets: Sequence[str] = ()) -> str:
    """A line for each stage, and one for each reason."""
    lock = root / dvc_files.LOCK
    recorded = dvc_files.recorded(lock.read_text(encoding="utf-8")) if lock.is_file() else {}
    found = dvc_graph.status(targets)
    if all(node.settled for node, _ in found):
        return NOTHING
    running = {node.name for node, changes in found if changes}
    return "\n".join(line for node, changes in found for line in _of_stage(root, node, changes, recorded, running))


def _of_stage(
    root: Path, node: StageNode, changes: list[Any], recorded: Mapping[str, Any], running: set[str]
) -> Iterator[str]:
    above = ", ".join(name for name in node.upstream if name in running)
    if node.settled:
        yield f"{node.name}: nothing changed"
    elif not changes:
        running.add(node.name)  # for those below
        yield f"{node.name} may run: nothing changed in it, but {above} above it will or may run"
    elif node.name not in recorded:
        yield f"{node.name} will run: it has not run yet, as far as {dvc_files.LOCK} knows"
    else:
        yield f"{node.name} will run:"
        yield from (f"  {reason}" for reason in _reasons(root, changes, recorded[node.name]))
        if above:
            yield f"  and {above} above it will or may run"


def _reasons(root: Path, changes: list[Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    for change in changes:
        if isinstance(change, str):
            yield "its command changed" if change == "changed command" else change
            continue
        for path, state in change.get("changed deps", {}).items():
            if isinstance(state, Mapping):
                yield from _parameters(root / path, list(state), recorded.get("params", {}).get(path, {}))
            else:
                yield f"{_kind(root, path)} {path} {WORDS.get(state, state)}{_files(root, path)}"
        for path, state in change.get("changed outs", {}).items():
            yield f"its output {path} {WORDS.get(state, state)}"


def _parameters(path: Path, sections: Sequence[str], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Each value that differs, with the old and the new one."""
    now = params.read(path)
    for section in sections:
        before, after = flatten({section: recorded.get(section, {})}), flatten({section: now.get(section, {})})
        for name in dict.fromkeys([*before, *after]):
            if before.get(name) != after.get(name) or (name in before) != (name in after):
                old, new = (repr(values[name]) if name in values else "nothing" for values in (before, after))
                yield f"parameter {name}: {old} → {new}"


def _kind(root: Path, path: str) -> str:
    code = path.endswith((".py", ".lock")) or any((root / path).glob("*.py"))
    return "code" if code else "input"


def _files(root: Path, path: str) -> str:
    """The files in the directory ``path`` that git knows to be other ones than when dvc.lock was recorded."""
    if not (root / path).is_dir():
        return ""
    commit = git(root, "log", "-1", "--format=%H", "--", dvc_files.LOCK).strip() or "HEAD"
    changed = git(root, "diff", "--name-only", commit, "--", path).splitlines()
    new = git(root, "ls-files", "--others", "--exclude-standard", "--", path).splitlines()
    names = sorted({*changed, *new})
    return f": {', '.join(names)}" if names else ""

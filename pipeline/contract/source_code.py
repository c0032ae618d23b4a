"""Which files a stage is made of.

dvc.yaml names *rooms* (folders) and single files as a stage's dependencies, and the fingerprint under which a
training is resumed is a hash over the same list.  Two tests hold that list to the truth: the files that the stage's
module imports, imports inside functions counted (``closure``), and those that a run of it really loads, must all be
in it, but for the ``EXCEPTIONS``, which can't change what a stage writes.

Members of a seam are imported by name, so ``closure`` ends at the seam's own ``__init__``; a stage that reaches one
must depend on the room, or on the members that it may open.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

VERSIONS = "numerics.lock"
"""The library versions that can change numbers."""

EXCEPTIONS = {
    "gptcore/__init__.py": "sets how threads wait for each other",
    "gptcore/memory.py": "refuses what is larger than this machine",
    "gptcore/ranges.py": "refuses configurations and changes none",
    "gptcore/seams.py": "finds the members of a room, which are dependencies themselves",
    "pipeline/__main__.py": "the verbs of the command line",
    "pipeline/contract": "turns a command line and params.yaml, which are dependencies themselves, into arguments",
    "pipeline/git.py": "looks into git, for views and verdicts",
    "pipeline/holders.py": "tells who holds a lock",
    "pipeline/locks.py": "decides who waits for whom",
    "pipeline/orchestration": "decides when a stage runs",
    "pipeline/project.py": "where scratch is, and switches of telemetry",
    "pipeline/run_stage.py": "calls the stage's function and records that it did",
    "pipeline/signals.py": "notes that a run is to stop",
    "pipeline/tracking": "views: records facts for trackers, prints progress",
}
"""Files and rooms that can't change what a stage writes, each with its reason."""


def closure(module: str) -> list[str]:
    """Paths, relative to the project, of the files that ``module`` imports, transitively, itself included."""
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        path = _file(name)
        if path is None or path in found:
            continue
        found.add(path)
        todo += [*_parents(name), *_imports(path)]
    return sorted(path for path in found if not is_prose(PROJECT / path))


def is_exception(path: str) -> bool:
    """Whether a file can't change what a stage writes."""
    return covers(EXCEPTIONS, path)


def covers(names: Iterable[str], path: str) -> bool:
    """Whether ``path`` is one of ``names`` or lies in a folder that is."""
    return any(path == name or path.startswith(f"{name}/") for name in names)


def code_hash(names: Iterable[str], root: Path = PROJECT) -> str:
    """sha256 over names and bytes of the source files that ``names``, files and folders, stand for."""
    digest = hashlib.sha256()
    for path in sorted({file for name in names for file in _sources(root / name)}):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def closure_hash(module: str) -> str:
    """The same over what ``module`` imports: for a stage that no wiring names."""
    return code_hash([*(path for path in closure(module) if not is_exception(path)), VERSIONS])


def _sources(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    return [path] if path.is_file() else []


@cache
def _imports(path: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def is_prose(path: Path) -> bool:
    """Whether a file holds nothing but its docstring, as a room's ``__init__`` often does."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


@cache
def _file(module: str) -> str | None:
    base = Path(*module.split("."))
    if base.parts[0] not in ("gptcore", "pipeline"):
        return None
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if (PROJECT / candidate).is_file():
            return candidate.as_posix()
    return None

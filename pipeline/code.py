"""Which files of this project a module is made of: the static closure of its imports.

Read from the source with ``ast``, so imports inside functions count and nothing is executed.  Two things
rest on it: the code dependencies in dvc.yaml (a test compares them) and the fingerprint under which a
training run may be resumed (other code, other run).  It takes some 20 ms.

``NO_BYTES`` names the files that can't change what a stage writes, each with its reason; they are left out
so that an edit to them reruns nothing.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

NO_BYTES = {
    "pipeline/tracking.py": "a view: spools facts for MLflow",
    "pipeline/feeder.py": "a view: carries spools to MLflow",
    "pipeline/spool.py": "a view: the file format between the two",
    "pipeline/environment.py": "paths of scratch and telemetry switches",
    "pipeline/locks.py": "decides who waits for whom",
    "pipeline/progress.py": "a view: prints progress",
    "pipeline/provenance.py": "records how an artifact came to be, outside the outs",
    "pipeline/code.py": "decides where scratch lies, not what is computed",
}


def closure(module: str) -> list[str]:
    """Paths, relative to the project, of the files that ``module`` imports, transitively, itself included."""
    found: set[str] = set()
    todo = [module]
    while todo:
        path = _file(todo.pop())
        if path is None or path in found:
            continue
        found.add(path)
        todo += _imports(path)
    return sorted(path for path in found if path not in NO_BYTES and (PROJECT / path).stat().st_size)


def code_hash(module: str) -> str:
    """sha256 over the closure's names and bytes, and the versions that can change numbers."""
    digest = hashlib.sha256()
    for path in [*closure(module), "numerics.lock"]:
        digest.update(path.encode() + b"\0" + (PROJECT / path).read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def _imports(path: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@cache
def _file(module: str) -> str | None:
    base = Path(*module.split("."))
    if base.parts[0] not in ("gptcore", "pipeline"):
        return None
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if (PROJECT / candidate).is_file():
            return candidate.as_posix()
    return None

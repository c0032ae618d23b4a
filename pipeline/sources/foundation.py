"""A published model to start from: a directory of a hub, or one GGUF file from wherever files come.

Either becomes an artifact of its own, so that the stage that loads it knows where it came from without reading what
else was fetched.  Rejected: archives of model directories, which nobody publishes any more.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from gptcore.artifact import MANIFEST, commit
from pipeline.sources import hub, pinned

NAME = "foundation"
KIND = "foundation"
GGUF = ".gguf"


def problems(uri: str, sha256: str) -> Iterator[str]:
    """What is wrong with the address of a foundation and its pin."""
    if not uri:
        if sha256:
            yield "foundation_sha256: pins the weights of a foundation, but foundation is empty"
        return
    if not _is_file(uri):
        if problem := hub.problem_with_model(uri):
            yield f"foundation: {problem}, or the address of a {GGUF} file (pypi://, https://, file://)"
    elif problem := pinned.problem_with(uri):
        yield f"foundation: {problem}"
    if (sha256 or _is_file(uri)) and (problem := pinned.problem_with_sha256(sha256)):
        yield f"foundation_sha256: {problem}"


def fetch(uri: str, sha256: str, licence: str, cache: Path, out: Path) -> Path:
    """Make ``out`` an artifact with the model's files; gives ``out``."""
    files, origin = _file(uri, sha256, cache) if _is_file(uri) else _directory(uri, sha256, cache)
    with commit(out, kind=KIND, config={"sources": {NAME: {"uri": origin, "licence": licence}}}) as draft:
        for name, path in files.items():
            shutil.copyfile(path, draft / name)
    return out


def _is_file(uri: str) -> bool:
    return uri.partition("?")[0].endswith(GGUF) and not uri.startswith("hf://")


def _file(uri: str, sha256: str, cache: Path) -> tuple[dict[str, Path], str]:
    """The file by its name, and the address."""
    return {pinned.file_name(uri): pinned.fetch(uri, sha256, cache)}, uri


def _directory(uri: str, sha256: str, cache: Path) -> tuple[dict[str, Path], str]:
    """The files by their names, and the address with the commit that the revision meant."""
    model = hub.fetch_model(uri, cache, sha256)
    files = {path.name: path for path in sorted(model.iterdir()) if path.name != MANIFEST}
    return files, f"{uri.partition('@')[0]}@{model.name}"

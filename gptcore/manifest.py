"""What an artifact says about itself, read as something that anybody may have written.

``manifest.json`` holds only what determines the content: per file sha256 and size, the configuration, the content
hashes of the inputs, and a sha256 over all of this, for a bit may flip in the manifest too.  Times, hosts, paths,
thread counts and speeds belong elsewhere: they would make equal artifacts differ.

Its own sha256 tells damage, not forgery: a forger computes it anew.  So every field's type is checked, and a
file's name must be one below the directory: nothing outside of it is ever opened because a manifest says so.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gptcore.errors import DataError
from gptcore.untrusted import MB, read_json, shown

MANIFEST = "manifest.json"
FORMAT = 1
REMEDY = "mend it with `python -m pipeline verify --repair` in the project that made it, or copy it anew from there"
LIMIT = 16 * MB
"""Of the file; a hundred thousand files have their lines in it."""


@dataclass(frozen=True)
class Manifest:
    """What a verified artifact says about itself."""

    directory: Path
    kind: str
    """What the directory holds, e.g. ``"tokens"``: refuses a directory of another kind."""
    content_hash: str
    """sha256 over what the artifact *means*; by default over the names and hashes of its files."""
    config: dict[str, Any]
    inputs: dict[str, str]
    """Name of each input → its content hash."""
    files: dict[str, dict[str, Any]]
    """Relative path → ``{"sha256": …, "size": bytes}``."""


def canonical_json(value: Any) -> str:
    """The one spelling of ``value`` as JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_manifest(directory: Path, kind: str | None = None, remedy: str = REMEDY) -> Manifest:
    """Read ``directory``'s manifest without hashing the files; checks its form and ``kind``."""
    directory = Path(directory)
    path = directory / MANIFEST
    try:
        if path.is_symlink():
            raise ValueError("a symbolic link, not the file itself")
        fields = read_json(path, LIMIT)
        _check(fields)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{path}: missing, so {directory} is no complete artifact; {remedy.format(directory)}"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: not a manifest of this project ({error}); {remedy.format(directory)}") from None
    manifest = Manifest(directory, **{name: fields[name] for name in _FIELDS})
    if kind is not None and manifest.kind != kind:
        raise DataError(f"{directory}: expected an artifact of kind {kind!r}, found {shown(manifest.kind)}")
    return manifest


_FIELDS: dict[str, type] = {"kind": str, "content_hash": str, "config": dict, "inputs": dict, "files": dict}
_WORDS: dict[type, str] = {str: "a text", dict: "an object"}
_SHA256 = re.compile("[0-9a-f]{64}")


def _check(fields: Any) -> None:
    """Raise ``ValueError`` with the first thing that is wrong."""
    if not isinstance(fields, dict):
        raise ValueError(f"expected an object, found {shown(fields)}")
    stated = {name: value for name, value in fields.items() if name != "sha256"}
    try:
        own = sha256_text(canonical_json(stated))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if fields.get("sha256") != own:
        raise ValueError("damaged: its own sha256 is another")
    if type(found := fields.get("format")) is not int or found != FORMAT:
        raise ValueError(f"expected format {FORMAT}, found {shown(found)}")
    for name, kind in _FIELDS.items():
        if not isinstance(fields.get(name), kind):
            raise ValueError(f"{name}: expected {_WORDS[kind]}, found {shown(fields.get(name))}")
    for name, content in fields["inputs"].items():
        if not isinstance(content, str):
            raise ValueError(f"inputs: expected a hash for {shown(name)}, found {shown(content)}")
    for name, fact in fields["files"].items():
        _check_file(name, fact)


def _check_file(name: str, fact: Any) -> None:
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or path.as_posix() != name
        or name in ("", ".", MANIFEST)
        or "\0" in name
    ):
        raise ValueError(f"files: expected names within the directory, found {shown(name)}")
    fact = fact if isinstance(fact, dict) else {}
    sha256, size = fact.get("sha256"), fact.get("size")
    if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256) and type(size) is int and size >= 0):
        raise ValueError(
            f"files: {shown(name)}: expected sha256 (64 hexadecimal digits) and size (bytes), "
            f"found {shown(sha256)} and {shown(size)}"
        )

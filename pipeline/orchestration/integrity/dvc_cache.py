"""DVC's cache, seen as files: objects named by md5, and entries of its run cache named by their own hash.

A plain DVC checks an object out without hashing it once it is write-protected, which all of them are; so a rotten one
comes back without a word, a metrics file too: git has it, but the run cache keeps a copy.  What is wrong here is set
aside under ``damaged/``, where DVC finds nothing; then it runs the stage.

Sizes in entries of the run cache are in no hash, and DVC decides nothing by them; that they are numbers is looked at,
for DVC adds them up.

Nothing of DVC is imported: these are a dozen lines of its formats, stable since its version 3, and a test holds
them to what the installed version writes.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gptcore.artifact import write_atomically
from pipeline.orchestration.dvc_program import ASIDE, set_aside
from pipeline.orchestration.integrity.findings import Finding, Kind
from pipeline.orchestration.integrity.on_disk import DIRECTORY, Disk

OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
RUN = re.compile(r"[0-9a-f]{64}")
PROTECTED = 0o444
"""As DVC leaves its objects."""
UNHASHED = ("size", "nfiles")
"""Keys that the names of run-cache entries leave out."""


class Cache:
    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder = folder
        self._disk = disk

    def path(self, oid: str) -> Path:
        """Where the object of this hash lies, if it is there."""
        return self.folder / "files" / "md5" / oid[:2] / oid[2:]

    def objects(self) -> Iterator[tuple[str, Path]]:
        """(hash by name, file); drafts of a killed DVC are none."""
        for path in sorted((self.folder / "files" / "md5").glob("??/*")):
            if OBJECT.fullmatch(oid := path.parent.name + path.name):
                yield oid, path

    def entries(self) -> Iterator[Path]:
        """What the run cache remembers: ``runs/ab/KEY/VALUE``."""
        return (path for path in sorted((self.folder / "runs").glob("??/*/*")) if RUN.fullmatch(path.name))

    def findings(self) -> Iterator[Finding]:
        """Every object and entry whose content is not what its name says."""
        for oid, path in self.objects():
            if (found := self._disk.content(path).md5) != oid.removesuffix(DIRECTORY):
                yield Finding(Kind.CACHED, path, f"damaged entry of DVC's cache: its md5 is {found}", oid)
        for path in self.entries():
            self._disk.content(path)
            if not _is_intact_entry(path):
                yield Finding(Kind.CACHED, path, "damaged entry of DVC's run cache", f"run-{path.name}")

    def listing(self, oid: str) -> dict[str, str] | None:
        """Name → md5 of the files of a directory, from its object; None where there is no intact one."""
        path = self.path(oid)
        if not path.is_file() or self._disk.content(path).md5 + DIRECTORY != oid:
            return None
        return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_bytes())}

    def set_aside(self, path: Path, name: str) -> Path:
        """Move an object or entry to where DVC does not look; returns its new place."""
        return set_aside(path, self.folder / ASIDE, name)

    def put(self, oid: str, content: bytes) -> None:
        """Add an object whose content the caller has hashed."""
        write_atomically(self.path(oid), content)
        self.path(oid).chmod(PROTECTED)


def _is_intact_entry(path: Path) -> bool:
    try:
        entry = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        value = _entry_hash(entry)
        key = _entry_hash({**entry, "outs": [out["path"] for out in entry["outs"]]})
    except (OSError, UnicodeDecodeError, YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return (key, value) == (path.parent.name, path.name)


def _entry_hash(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(_hashed(entry), sort_keys=True).encode("utf-8")).hexdigest()


def _hashed(value: Any) -> Any:
    if isinstance(value, list):
        return [_hashed(item) for item in value]
    if isinstance(value, dict):
        if not all(type(value[key]) is int and value[key] >= 0 for key in UNHASHED if key in value):
            raise ValueError(f"{' or '.join(UNHASHED)} is no count")
        return {key: _hashed(item) for key, item in value.items() if key not in UNHASHED}
    return value

"""A record of a run: the hash of every file and of every tensor that it wrote, small enough for git.

dvc.lock has one hash a directory: it says that an export differs, not that one bias does.  And it ties outs to the code
that made them: after any edit there is nothing to compare.  A record is tied to parameters, data and machine class
alone, so that code which changes bytes without meaning to is caught; whoever means to, records anew, and the commit
shows it.

One file a profile, ``data/records/PROFILE.json``, found by the parameters in it.  Hashes are the first 16 digits of
sha256: this is about accidents.  Of the data there are two hashes, of what was *given* (files that no stage wrote) and
of what stages *see* of it (what the first of them made of it): equal data are those of which either is equal.  A text
put into ``data/own`` changes the first and, unless it is used, not the second; a change of the code that reads them the
other way round.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize

from gptcore.artifact import MANIFEST, canonical_json, read_manifest, sha256_text
from gptcore.errors import DataError
from pipeline.orchestration.dvc_files import is_code
from pipeline.orchestration.integrity.on_disk import Disk
from pipeline.orchestration.integrity.outs import Out, outs_of

FOLDER = "data/records"
FORMAT = 1
DIGITS = 16
TENSORS = ".safetensors"

Lock = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Record:
    profile: str
    machine_class: str
    parameters: str
    """Hash of those of all stages that are recorded."""
    given: str
    seen: str
    stages: dict[str, dict[str, dict[str, Any]]]
    """Stage → out → ``files``: name → hash; ``tensors``: name of a file → tensor → hash; ``content``: of an artifact,
    what it means, for bytes may depend on the version of the library that wrote them."""
    format: int = FORMAT

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.profile}.json"

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def size(self) -> str:
        """How much is recorded, in words."""
        outs = [out for stage in self.stages.values() for out in stage.values()]
        tensors = sum(len(file) for out in outs for file in out.get("tensors", {}).values())
        return f"{sum(len(out['files']) for out in outs)} files and {tensors} tensors"

    def is_of(self, root: Path, lock: Lock) -> bool:
        """Whether the run that ``lock`` records had these parameters and data."""
        if self.parameters != parameters(lock, self.stages):
            return False
        return given(root, lock, self.stages) == self.given or seen(root, lock, self.stages) == self.seen


@dataclass(frozen=True)
class Difference:
    stage: str
    out: str
    file: str
    tensors: tuple[str, ...] = ()
    same_content: bool = False
    """Whether the artifact means the same all the same."""

    def __str__(self) -> str:
        more = f" and {len(self.tensors) - 1} more" if len(self.tensors) > 1 else ""
        tensor = f", tensor {self.tensors[0]}{more}" if self.tensors else ""
        return f"stage {self.stage}, {self.file}{tensor}" + (" (its content is equal)" if self.same_content else "")


def make(root: Path, lock: Lock, profile: str, machine_class: str) -> Record:
    """The record of what lies in ``root`` now."""
    disk = Disk()
    stages: dict[str, dict[str, dict[str, Any]]] = {}
    for out in outs_of(lock):
        stages.setdefault(out.stage, {})[out.path] = _described(root, out, disk)
    return Record(
        profile, machine_class, parameters(lock, stages), given(root, lock, stages), seen(root, lock, stages), stages
    )


def load_all(root: Path) -> list[Record]:
    """Every record there is; raises ``DataError`` for a file that is none."""
    return [_load(path) for path in sorted((root / FOLDER).glob("*.json"))]


def differences(record: Record, root: Path, lock: Lock, order: list[str], disk: Disk) -> Iterator[Difference]:
    """What ``root`` holds otherwise, by stage in their ``order``; stages that aren't recorded are not looked at."""
    outs = {(out.stage, out.path): out for out in outs_of(lock)}
    for stage in [*order, *(name for name in record.stages if name not in order)]:
        recorded = record.stages.get(stage, {})
        for path in sorted(recorded, key=lambda path: ("" not in recorded[path]["files"], path)):
            out = outs.get((stage, path), Out(stage, path, ""))
            yield from _of_out(out, recorded[path], root, disk)


def parameters(lock: Lock, stages: Mapping[str, Any]) -> str:
    """Hash of the parameters that these stages ran with."""
    return _hash({stage: sections(lock, stage) for stage in stages})


def sections(lock: Lock, stage: str) -> dict[str, Any]:
    """Section → values, as a stage had them."""
    files = lock.get(stage, {}).get("params") or {}
    return {name: values for section in files.values() for name, values in section.items()}


def given(root: Path, lock: Lock, stages: Iterable[str]) -> str:
    """Hash of what these stages read and none wrote, code aside."""
    return _hash({path: md5 for stage in stages if stage in lock for path, md5 in _foreign(root, lock, stage).items()})


def seen(root: Path, lock: Lock, stages: Iterable[str]) -> str:
    """Hash of what the first of these stages made of the data, and of what others read beside it."""
    found: dict[str, str] = {}
    for stage, entry in ((stage, lock[stage]) for stage in stages if stage in lock):
        if any(_made(lock, dep["path"]) for dep in entry.get("deps", [])):
            found |= _foreign(root, lock, stage)
        else:
            contents = {out["path"]: _content(root / out["path"]) for out in entry.get("outs", [])}
            found |= {path: content for path, content in contents.items() if content} or contents
    return _hash(found)


def _foreign(root: Path, lock: Lock, stage: str) -> dict[str, str]:
    """Path → md5 of what a stage reads and none wrote, code aside."""
    data = [dep for dep in lock[stage].get("deps", []) if not is_code(dep["path"], root)]
    return {dep["path"]: dep.get("md5", "") for dep in data if not _made(lock, dep["path"])}


def _made(lock: Lock, path: str) -> bool:
    return any(Path(path).is_relative_to(out.path) for out in outs_of(lock))


def _content(path: Path) -> str:
    """What an artifact means; empty for anything else."""
    try:
        return read_manifest(path).content_hash[:DIGITS]
    except DataError:
        return ""


def _described(root: Path, out: Out, disk: Disk) -> dict[str, Any]:
    tree = disk.tree(root / out.path)
    found: dict[str, Any] = {"files": {name: content.sha256[:DIGITS] for name, content in tree.items()}}
    if tensors := {name: tensor_hashes(root / out.path / name) for name in tree if name.endswith(TENSORS)}:
        found["tensors"] = tensors
    if content := _content(root / out.path):
        found["content"] = content
    return found


def _of_out(out: Out, recorded: dict[str, Any], root: Path, disk: Disk) -> Iterator[Difference]:
    files = {name: content.sha256[:DIGITS] for name, content in disk.tree(root / out.path).items()}
    if files == recorded["files"]:
        return
    same = bool(recorded.get("content")) and _content(root / out.path) == recorded["content"]
    names = {name for name in files.keys() | recorded["files"].keys() if files.get(name) != recorded["files"].get(name)}
    for name in sorted(names, key=lambda name: (name == MANIFEST, name)):  # a manifest differs because others do
        path = root / out.path / name if name else root / out.path
        before = recorded.get("tensors", {}).get(name, {})
        after = tensor_hashes(path) if before and path.is_file() else {}
        tensors = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n)) if after else []
        yield Difference(out.stage, out.path, path.relative_to(root).as_posix(), tuple(tensors), same)


def tensor_hashes(path: Path) -> dict[str, str]:
    """Name → hash over type, shape and bytes; nothing for a file that can't be read as safetensors."""
    try:
        tensors = deserialize(path.read_bytes())
    except (OSError, SafetensorError):
        return {}
    return {name: _tensor_hash(entry) for name, entry in tensors}


def _tensor_hash(entry: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(f"{entry['dtype']} {list(entry['shape'])} ".encode())
    digest.update(entry["data"])
    return digest.hexdigest()[:DIGITS]


def _hash(value: Any) -> str:
    return sha256_text(canonical_json(value))[:DIGITS]


def _load(path: Path) -> Record:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, found {plain['format']!r}")
        record = Record(**plain)
        if not all(isinstance(getattr(record, field.name), str) for field in fields(Record) if field.type == "str"):
            raise ValueError("expected strings")
        _ = [out["files"].items() for stage in record.stages.values() for out in stage.values()]
        return record
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        name = f"{FOLDER}/{path.name}"
        raise DataError(f"{name}: not a record ({error}); `git checkout {name}`, or record the run anew") from None

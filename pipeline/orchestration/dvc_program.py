"""DVC, made safe against a cut and against a damaged cache: ``python -m pipeline.orchestration.dvc_program …``.

`make` puts this under the name ``dvc`` into the environment, so that ``dvc repro`` typed by hand is as safe as ours.
It is DVC's own program with some of its routines exchanged (a test pins each):

====================  ===============================================  ========================================
file                  DVC                                              here
====================  ===============================================  ========================================
dvc.lock, dvc.yaml,   truncated, then written; a cut leaves a part     written beside it and renamed
params.yaml           of it and every later run is refused
dvc.lock              keeps stages that are switched off or gone       they are left out
dvc.lock, cut by      every later run is refused                       set aside; what it recorded comes back
another DVC                                                            from DVC's record of runs
.dvc/tmp/rwlock       truncated, then written                          written beside it and renamed
.dvc/cache/files      believed where the file is read-only: damage     hashed before anything is taken from it;
                      is checked out without a word                    what is damaged is named and set aside,
                                                                       and DVC runs the stage again
.dvc/cache/runs       believed; a cut can leave a folder without a     hashed before it is followed; an empty
                      record, at which every later run ends            folder holds no record
drafts beside outs    left there where the disk is full                removed
====================  ===============================================  ========================================

What else DVC writes survives a cut as it is: files of the cache and of the work tree come by rename,
``.dvc/tmp/lock`` is a lock of the kernel's, ``btime`` is empty, ``.gitignore`` grows by one write a line, and its
databases of hashes are SQLite.

Costs nothing where nothing is restored; a restored out is read once more (md5, 0.7 GB/s).

Rejected: a copy of the last good dvc.lock (one stage behind, and no help to who types ``dvc repro``); DVC's own
setting to verify a cache, which exists for remotes only and trusts whatever is read-only; a fork of DVC.
"""

import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any

from gptcore.artifact import write_atomically
from pipeline import project
from pipeline.orchestration.dvc_files import LOCK, mend_lock_table, still_there

COMMAND = (sys.executable, "-m", __name__ if __name__ != "__main__" else "pipeline.orchestration.dvc_program")
"""How our own processes start it: in the project's folder or with `project.module_path`."""
ASIDE = "damaged"
"""Folder in DVC's cache for what turned out to be damaged."""
CONFLICT = "<<<<<<<"
"""Of git's marks in a file that two sides changed: such a dvc.lock isn't cut, and is the user's to settle."""


def main(arguments: Sequence[str] | None = None) -> int:
    """DVC's command line; returns its exit code."""
    project.quiet()
    project.lean()
    mend_lock_table()
    harden()
    from dvc.cli import main as dvc

    return int(dvc(list(arguments) if arguments is not None else None) or 0)


@cache
def harden() -> None:
    """Exchange the routines in this process, once; asked for before `dvc` is used as a library, too."""
    _write_whole_files()
    _write_whole_lock_table()
    _leave_no_drafts()
    _start_over_from_a_cut_record()
    _hash_what_is_restored()


def _write_whole_files() -> None:
    from dvc.utils.serialize import _common, _json, _py, _toml, _yaml

    def dump(path: Any, data: Any, dumper: Callable[..., Any], fs: Any = None, **options: Any) -> None:
        text, target = io.StringIO(), Path(path).resolve()
        if target.name == LOCK:
            _drop_what_is_switched_off(data, target.parent)
        dumper(data, text, **options)
        write_atomically(target, text.getvalue().encode("utf-8"))

    for module in (_common, _json, _py, _toml, _yaml):
        module._dump_data = dump


def _drop_what_is_switched_off(lock: Any, root: Path) -> None:
    """A stage that dvc.yaml no longer has would stay in dvc.lock for ever, a difference to the commit that is none."""
    stages = lock.get("stages", {}) if isinstance(lock, dict) else {}
    for gone in set(stages) - still_there(stages, root):
        del stages[gone]


def _write_whole_lock_table() -> None:
    from dvc import rwlock

    edit = rwlock._edit_rwlock
    rwlock._edit_rwlock = lambda folder, fs, hardlink: edit(folder, _WholeFiles(fs), hardlink)


def _leave_no_drafts() -> None:
    from dvc_objects.fs import local

    def put_file(self: Any, lpath: str, rpath: str, callback: Any = None, **options: Any) -> None:
        folder = self._parent(rpath)
        local.makedirs(folder, exist_ok=True)
        draft = os.path.join(folder, local.tmp_fname())
        try:
            local.copyfile(lpath, draft, callback=callback)
            os.replace(draft, rpath)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise

    local.FsspecLocalFileSystem.put_file = put_file  # type: ignore[method-assign]


class _WholeFiles:
    """A file system of DVC's whose files are replaced when they are closed, not while they are written."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    @contextmanager
    def open(self, path: str, mode: str = "r", encoding: str = "utf-8") -> Iterator[Any]:
        if mode != "w":
            with self._fs.open(path, mode, encoding=encoding) as file:
                yield file
            return
        text = io.StringIO()
        yield text
        write_atomically(Path(path), text.getvalue().encode(encoding))


def _start_over_from_a_cut_record() -> None:
    from dvc.dvcfile import Lockfile
    from dvc.utils.serialize import ParseError
    from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError

    load = Lockfile._load

    def load_or_set_aside(self: Any, **options: Any) -> Any:
        try:
            loaded = load(self, **options)
            if self.repo.fs.protocol != "local" or not _is_cut(loaded[1]):
                return loaded
            problem = "ends in the middle of a line or an entry"
        except (ParseError, YAMLSyntaxError, YAMLValidationError) as error:
            if self.repo.fs.protocol != "local" or CONFLICT in Path(self.path).read_text("utf-8", errors="replace"):
                raise
            problem = str(error)
        path = Path(self.path)
        copy = set_aside(path, Path(self.repo.root_dir) / ".dvc" / "tmp", f"{path.name}.{ASIDE}")
        _say(f"{path.name}: {problem}; set aside as {copy}; DVC's record of runs still has what it held")
        return {}, ""

    Lockfile._load = load_or_set_aside


def _is_cut(record: str) -> bool:
    """Whether a dvc.lock that can be parsed is only the beginning of one: after each md5 a size follows."""
    return bool(record) and (record[-1] != "\n" or record.rstrip().rpartition("\n")[2].lstrip().startswith("md5:"))


def _hash_what_is_restored() -> None:
    from dvc.output import Output
    from dvc.stage.cache import StageCache, _get_cache_hash
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_data.hashfile.tree import Tree
    from dvc_data.index import ObjectStorage
    from dvc_data.index import checkout as work_tree

    check, load, create = LocalHashFileDB.check, StageCache._load_cache, work_tree._create_files
    plain_tree: Any = vars(Tree)["load"].__func__
    restoring: list[bool] = []
    whole: set[str] = set()

    def during(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def watched(*arguments: Any, **options: Any) -> Any:
            restoring.append(True)
            try:
                return method(*arguments, **options)
            finally:
                restoring.pop()

        return watched

    def hashed_check(self: Any, oid: str, check_hash: bool = True, _info: Any = None) -> Any:
        if restoring:
            insist(self, oid)
        return check(self, oid, check_hash, _info)

    def hashed_create(entries: Any, index: Any, *arguments: Any, storage: str = "cache", **options: Any) -> Any:
        entries = list(entries)
        for entry in entries if index is not None else []:
            place = getattr(index.storage_map[entry.key], storage)
            if isinstance(place, ObjectStorage) and entry.hash_info:
                insist(place.odb, entry.hash_info.value)
        return create(entries, index, *arguments, **{**options, "storage": storage})

    def hashed_tree(kind: Any, odb: Any, hash_info: Any, *arguments: Any, **options: Any) -> Any:
        insist(odb, hash_info.value)
        return plain_tree(kind, odb, hash_info, *arguments, **options)

    def insist(odb: Any, oid: str) -> None:
        if isinstance(odb, LocalHashFileDB) and oid not in whole:
            _insist(Path(odb.oid_to_path(oid)), oid, Path(odb.path).parents[1])
            whole.add(oid)

    def hashed_load(self: Any, key: str, value: str | None) -> Any:
        if value is None:  # a cut came between the folder and its first record; DVC would end with a TypeError
            return None
        record = load(self, key, value)
        if record is not None and _get_cache_hash(record) != value:
            path = Path(self._get_cache_path(key, value))
            copy = set_aside(path, Path(self.cache_dir).parent / ASIDE, value)
            _say(f"{_short(path)}: damaged; set aside as {copy}; the stage runs again")
            return None
        return record

    LocalHashFileDB.check = hashed_check  # type: ignore[method-assign]
    StageCache._load_cache = hashed_load
    work_tree._create_files = hashed_create
    Tree.load = classmethod(hashed_tree)  # type: ignore[assignment,method-assign]
    StageCache.restore = during(StageCache.restore)
    Output.checkout = during(Output.checkout)
    Output.commit = during(Output.commit)  # else a damaged file of this name would stay in the cache


def _insist(path: Path, oid: str, cache_folder: Path) -> None:
    """Set a file of the cache aside if its content isn't what its name says; DVC then finds it missing."""
    with suppress(FileNotFoundError):  # or another process has set it aside meanwhile
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found == oid.partition(".")[0]:
            return
        copy = set_aside(path, cache_folder / ASIDE, oid)
        _say(f"{_short(path)}: damaged (its md5 is {found}); set aside as {copy}; the stage that makes it runs again")


def set_aside(path: Path, folder: Path, name: str) -> Path:
    """Move a damaged file into ``folder``, under ``name`` or the next free one; returns where, seen from here."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = ("", *(f".{i}" for i in range(1, 10_000)))
    target = next(free for end in ends if not (free := folder / (name + end)).exists())
    os.replace(path, target)
    return _short(target)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _say(words: str) -> None:
    print(f"WARNING: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

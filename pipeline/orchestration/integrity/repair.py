"""Make again what a look over the disk found damaged; whatever can't be made again is left and named.

First what DVC would bring back damaged is put where it finds nothing.  Then each damaged out is restored from intact
copies of its files, wherever on disk they lie (in DVC's cache, in another out, in the last commit); where there are
none, its stage runs once more, and no other.  At last the cache gets back what intact files can give it, and everything
is looked at again.

A copy has been hashed when it takes the place of what was damaged.  Outs are never deleted before they are there again:
what a stage has to make waits in ``data/.scratch/damaged``.

Rejected: ``dvc checkout --force``.  It takes a file whose time and size are as they were for unchanged, brings
damaged copies back, and knows nothing of outs that git keeps, such as metrics.
"""

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from gptcore.artifact import MANIFEST, write_atomically
from pipeline import locks
from pipeline.git import blob
from pipeline.orchestration.busy import nothing_running, run_lock
from pipeline.orchestration.dvc_process import Driver, StageFailed
from pipeline.orchestration.integrity import outs
from pipeline.orchestration.integrity.findings import Finding, Kind, shown
from pipeline.orchestration.integrity.on_disk import DIRECTORY, Disk, listing, remove
from pipeline.orchestration.integrity.outs import Out
from pipeline.orchestration.integrity.verify import Look, look, waiting

Say = Callable[[str], None]
REMOVED = {
    Kind.STATE: "damaged saved state removed; its training goes on from the one before",
    Kind.DOWNLOAD: "damaged download removed; the stage that needs it fetches it again",
}


def repair(root: Path, place: Path | None = None, say: Say = print) -> Look:
    """Mend what can be mended, of ``place`` or of everything; returns the look at the disk after it."""
    with nothing_running(wait=True):
        pass  # stages that are run by hand too; those that are run from here take their own locks
    with locks.held(run_lock(), what="another `make repro`"):
        found = look(root)
        wanted = look(root, place) if place else found
        _Repair(found, say).mend([f for f in found.damage if f.kind is Kind.CACHED or wanted.concerns(f.path)])
        return look(root, place)


class _Repair:
    def __init__(self, found: Look, say: Say) -> None:
        self._look, self._say = found, say
        self._root, self._disk, self._cache = found.root, found.disk, found.cache

    def mend(self, damage: list[Finding]) -> None:
        by_kind = {kind: [finding for finding in damage if finding.kind is kind] for kind in Kind}
        objects = [self._set_aside(finding) for finding in by_kind[Kind.CACHED]]
        for kind in REMOVED:
            for owner in sorted({finding.owner for finding in by_kind[kind]}):
                remove(Path(owner))
                self._say(f"{shown(Path(owner), self._root)}: {REMOVED[kind]}")
        damaged = {finding.owner for finding in by_kind[Kind.OUT]}
        self._make_again([out for out in self._look.outs if out.path in damaged and not self._restored(out)])
        self._put_back(objects)

    # --- DVC's cache ---

    def _set_aside(self, finding: Finding) -> str:
        aside = self._cache.set_aside(finding.path, finding.owner)
        self._say(f"{finding.line(self._root)}; set aside as {shown(aside, self._root)}")
        return finding.owner

    def _put_back(self, objects: list[str]) -> None:
        """Give the cache what intact outs can give; the rest comes back when a stage makes it."""
        disk = Disk()
        contents = {}
        for out in self._look.outs:
            tree = {name: content.md5 for name, content in disk.tree(self._root / out.path).items()}
            if out.is_directory:
                contents[disk.md5(self._root / out.path)] = listing(tree)
        for oid in objects:
            if self._cache.path(oid).exists():
                continue
            source = disk.having(oid)
            content = source.read_bytes() if source else contents.get(oid, b"")
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == oid.removesuffix(DIRECTORY):
                self._cache.put(oid, content)
                self._say(f"{shown(self._cache.path(oid), self._root)}: put back")

    # --- outs ---

    def _restored(self, out: Out) -> bool:
        """Put the out together from intact copies of its files; False where that can't be, or makes it no better."""
        target = self._root / out.path
        expected = outs.expected_files(self._root, out, self._cache.listing)
        if out.is_directory and MANIFEST not in expected:
            expected[MANIFEST] = self._disk.content(target / MANIFEST).md5
        draft = target.with_name(f".{target.name}.tmp-{os.getpid()}")
        try:
            whole = all(self._copied(hashed, draft / name if name else draft) for name, hashed in expected.items())
            if not whole or Disk().md5(draft) != out.md5 or self._disk.md5(target) == out.md5:
                return self._fetched_from_commit(out)
            remove(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(draft, target)
        finally:
            remove(draft)
        self._say(f"{out.path}: restored from intact copies")
        return True

    def _copied(self, hashed: str, target: Path) -> bool:
        for source in (self._cache.path(hashed), self._disk.having(hashed)):
            if source and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                if hashed in (Disk().md5(target), Disk().sha256(target)):
                    return True
        return False

    def _fetched_from_commit(self, out: Out) -> bool:
        content = blob(self._root, out.path)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != out.md5:
            return False
        write_atomically(self._root / out.path, content)
        self._say(f"{out.path}: restored from the last commit")
        return True

    def _make_again(self, damaged: list[Out]) -> None:
        """Run the stages of these outs, each after those that it reads from; the first that fails ends it."""
        driver = Driver({"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])})
        for stage in outs.in_order(self._look.lock):
            mine = [out for out in damaged if out.stage == stage]
            if not mine:
                continue
            self._say(f"{', '.join(out.path for out in mine)}: no intact copy; running {stage}")
            aside = [self._moved_away(out) for out in mine]
            try:
                driver.run(stage, _log())
            except StageFailed as error:
                self._say(f"{error}\nwhat was damaged lies in {shown(waiting(), self._root)}")
                return
            for path in aside:
                remove(path)

    def _moved_away(self, out: Out) -> Path:
        """Where neither DVC nor a stage finds it: the out, and an object that would bring it back as it is."""
        if self._disk.md5(self._root / out.path) == out.md5 and self._cache.path(out.md5).exists():
            self._cache.set_aside(self._cache.path(out.md5), out.md5)
        aside = waiting() / out.path
        aside.parent.mkdir(parents=True, exist_ok=True)
        if (self._root / out.path).exists():  # else what waits there from before is the only copy
            remove(aside)
            os.rename(self._root / out.path, aside)
        return aside


def _log() -> logging.Logger:
    """What a stage says, as it comes."""
    log = logging.getLogger(__name__)
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
        log.propagate = False
    return log

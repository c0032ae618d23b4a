"""Overlays of params.yaml: ``profiles/NAME.yaml`` holds only what differs.

The parameters in force stand in params.yaml itself, so that ``dvc repro``, ``dvc status`` and ``dvc exp`` see them.  A
profile is laid over what stood there before the first one, with the user's own edits, never over another profile:
``own`` after ``tiny`` is ``own`` alone, both together are ``tiny+own``.  ``none`` goes back; what was edited meanwhile
stays, and without an edit the file is the former one to the byte.

What is in force is said by one line of comment in params.yaml, which goes wherever the file goes (a commit, a
checkout, an experiment's copy); without that line all values are the user's own.  It names a *record* under
data/.scratch: the text before and the text as applied, between which and the text of now an edit can be told
(`overlays.taken_off`).  A record is written before the line that names it and is never changed, so a process killed at
any moment leaves the old file or the new one, each with its record.  A lost record is made up from the last commit;
only where that can't be, nothing is done but to say so.

Rejected: ``dvc exp run -S …``, which detaches HEAD and stashes the user's edits for the length of a run and can't set a
key that params.yaml does not have; and ``git checkout params.yaml`` as the way back: it throws the user's edits away.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcore.artifact import canonical_json, sha256_text, write_atomically
from gptcore.errors import ParameterError
from pipeline import locks
from pipeline.contract import overlays, params, plain_yaml
from pipeline.git import at_head

NONE = "none"
FOLDER, RECORDS = Path("profiles"), Path("data/.scratch/profiles")
GO_BACK = "python -m pipeline profile none"
KEPT = 50
"""Records that are kept: each is also a copy of a params.yaml that was replaced."""

_MARK = re.compile(r"^# In force: profile (\S+) \((\w+)\)\..*\n", re.MULTILINE)
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Record:
    """How a profile came into params.yaml."""

    names: str
    """As it was asked for: ``tiny+own``."""
    before: str
    """The text that it was laid over."""
    applied: str
    """The text that it gave, without the mark."""

    @property
    def key(self) -> str:
        return sha256_text(canonical_json(vars(self)))[:12]

    @property
    def marked(self) -> str:
        """What params.yaml holds."""
        told = f"# In force: profile {self.names} ({self.key}).  Going back, with your own edits kept: {GO_BACK}\n"
        return told + self.applied


def apply(names: str, root: Path = Path()) -> None:
    """Bring ``names`` (``tiny``, ``tiny+own``, ``none``) into force, and nothing else; the user's edits are kept.

    Raises ``ParameterError``, with nothing written, where there is no such profile or the result is not valid.
    """
    with locks.held(root / RECORDS / ".lock", what="another change of the profile"):
        now = _text(root)
        try:
            own = _own(now, root)
        except ParameterError:
            if names != in_force(root):
                raise
            return  # it is in force already, by a commit that holds nothing else
        if names == NONE:
            _replace(now, own, root)
            return
        text = own
        for name in _split(names):
            text = overlays.laid_over(text, _overlay(name, root))
        label = Path(f"{params.PARAMS_FILE} with the profile {names}")
        params.check_document(plain_yaml.parse(text.encode("utf-8"), label), label)
        record = Record(names, own, text)
        write_atomically(_place(record.key, root), json.dumps(vars(record), ensure_ascii=False).encode("utf-8"))
        _replace(now, record.marked, root)


def in_force(root: Path = Path()) -> str:
    """``tiny+own``, or nothing."""
    mark = _MARK.search(_text(root))
    return mark[1] if mark else ""


def own_edits(root: Path = Path()) -> dict[str, tuple[Any, Any]] | None:
    """The user's own changes of the committed parameters, as (committed, own); None where no commit tells."""
    committed = _committed(root)
    mark = _MARK.search(committed or "")
    if committed is None or (mark and not _recorded(mark[2], root)):
        return None
    label = Path(f"the committed {params.PARAMS_FILE}")
    before = plain_yaml.parse(_own(committed, root).encode("utf-8"), label)
    after = plain_yaml.parse(_own(_text(root), root).encode("utf-8"), root / params.PARAMS_FILE)
    return {name: (a, b) for name, a, b in overlays.changes(before, after)}


def told(root: Path = Path()) -> str:
    """What is in force, and the user's own edits, for people."""
    edits = own_edits(root)
    own = "none" if edits == {} else ""
    if edits is None:
        own = "not known, for no commit holds the parameters without a profile"
    lines = [f"in force: {in_force(root) or 'no profile'}", f"your own edits: {own}".rstrip()]
    return "\n".join([*lines, *(f"  {name} = {b!r}  (committed: {a!r})" for name, (a, b) in (edits or {}).items())])


def _own(now: str, root: Path) -> str:
    """The text without any profile."""
    mark = _MARK.search(now)
    if not mark:
        return now
    plain_yaml.parse(now.encode("utf-8"), root / params.PARAMS_FILE)  # for its messages
    record = _recorded(mark[2], root) or _made_up(mark[1], root)
    return overlays.taken_off(_without_mark(now), record.applied, record.before)


def _recorded(key: str, root: Path) -> Record | None:
    try:
        record = Record(**json.loads(_place(key, root).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.key == key else None


def _made_up(names: str, root: Path) -> Record:
    """The record as it would be if the profile had been laid over what is committed."""
    committed = _committed(root)
    if committed is None or _MARK.search(committed):
        raise ParameterError(
            f"{params.PARAMS_FILE}: says that the profile {names} is in force, but its record is not in {RECORDS}, and "
            "the last commit does not hold the parameters without it; nothing was changed. Take the file from an "
            "earlier commit (git log -- params.yaml), or delete its line 'In force' to keep the values as your own"
        )
    print(
        f"the record of the profile {names} is lost: what differs from the last commit and the profile counts as your "
        "own edit",
        file=sys.stderr,
    )
    text = committed
    for name in _split(names):
        text = overlays.laid_over(text, _overlay(name, root))
    return Record(names, committed, text)


def _split(names: str) -> list[str]:
    parts = names.split("+")
    if len(set(parts)) < len(parts) or NONE in parts or not all(_NAME.fullmatch(part) for part in parts):
        raise ParameterError(
            f"profile {names!r}: expected {NONE}, a file's name in {FOLDER} without .yaml, or several with + between"
        )
    return parts


def _overlay(name: str, root: Path) -> dict[str, Any]:
    path = root / FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise ParameterError(f"profile {name!r}: {path} is missing; expected one of: {known}")
    return plain_yaml.read(path)


def _replace(now: str, text: str, root: Path) -> None:
    """Write params.yaml; what it held is kept beside the records."""
    if text == now:
        return
    former = root / RECORDS / f"replaced-{sha256_text(now)[:12]}.yaml"
    write_atomically(former, now.encode("utf-8"))
    write_atomically(root / params.PARAMS_FILE, text.encode("utf-8"))
    _forget(text, root)


def _forget(text: str, root: Path) -> None:
    """Delete the oldest records, never the one in force."""
    mark = _MARK.search(text)
    files = [path for path in (root / RECORDS).iterdir() if path.suffix in (".json", ".yaml")]
    for path in sorted(files, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        if not (mark and path == _place(mark[2], root)):
            path.unlink(missing_ok=True)


def _place(key: str, root: Path) -> Path:
    return root / RECORDS / f"{key}.json"


def _text(root: Path) -> str:
    plain_yaml.read(root / params.PARAMS_FILE)  # for its messages
    with open(root / params.PARAMS_FILE, encoding="utf-8", newline="") as file:
        return file.read()


def _without_mark(text: str) -> str:
    return _MARK.sub("", text, count=1)


def _committed(root: Path) -> str | None:
    """params.yaml as the last commit has it."""
    return at_head(root, params.PARAMS_FILE.as_posix()) or None

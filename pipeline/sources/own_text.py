"""``data/own``: which of the user's files are text, and as what; which are not, and why.

Nothing that lies there is passed over without a word, but for this project's own README.  DVC hashes the folder
before any stage runs, and what it can't hash ends in its own words (a broken link, a name that is not UTF-8) or never
(it opens a named pipe and waits), so ``refuse_unreadable`` is asked first, by the verbs that start DVC and by the
stage.  That costs a ``stat`` a file.

``own://PATH`` names one of these files as a source that params.yaml describes; it is then no text to be sorted.

Links to files count as files.  Behind links to directories neither DVC nor this looks: a change there would not be
noticed, and the link may lead round in a circle.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from gptcore.artifact import sha256_file
from gptcore.errors import DataError
from gptcore.untrusted import shown
from pipeline import project

FOLDER = Path("data/own")
ABOUT = "README.md"
SCHEME = "own://"
LONGEST_NAME = 255
"""Bytes, on every usual file system."""
SHOWN = 5
"""As many names are told of each kind; then how many more there are."""


@dataclass
class Survey:
    """What lies in the folder."""

    taken: dict[str, list[Path]] = field(default_factory=dict)
    """Format → its files in a fixed order."""
    skipped: dict[str, list[Path]] = field(default_factory=dict)
    """Reason → the files that are not read."""

    def lines(self, own: Path) -> list[str]:
        """For the user: a line for each format and each reason."""
        told = [f"{own}: {_names(paths, own)} taken as {form}" for form, paths in self.taken.items()]
        return told + [f"{own}: {_names(paths, own)} skipped: {reason}" for reason, paths in self.skipped.items()]


def problem_with(uri: str) -> str | None:
    """What is wrong with ``own://PATH``, or None."""
    name = uri.removeprefix(SCHEME)
    path = PurePosixPath(name)
    plain = str(path) == name != "." and not path.is_absolute() and ".." not in path.parts and "\\" not in name
    if plain and name.isprintable() and max(len(part.encode()) for part in path.parts) <= LONGEST_NAME:
        return None
    return f"expected {SCHEME} and the path of a file in {FOLDER}, found {shown(uri)}"


def place(own: Path, uri: str) -> Path:
    """Where the file is that ``uri`` names."""
    return own / uri.removeprefix(SCHEME)


def existing(own: Path, uri: str, sha256: str) -> Path:
    """The same; refuses one that is not there, is another than is pinned, or of which DVC would not see a change."""
    path = place(own, uri)
    if not path.is_file():
        raise DataError(f"{uri}: expected a file at {spelled(path)}, found none; put it there or correct the address")
    inside = [folder for folder in path.parents if folder.is_relative_to(own) and folder != own]
    if link := next((folder for folder in inside if folder.is_symlink()), None):
        raise DataError(f"{uri}: {spelled(link)} is a link to a directory; put the file itself into {own}")
    if sha256 and (found := sha256_file(path)) != sha256:
        raise DataError(f"{uri}: expected sha256 {sha256}, found {found}; correct it in params.yaml, or leave it out")
    return path


def survey(own: Path, formats: Mapping[str, tuple[str, ...]], besides: Collection[Path] = ()) -> Survey:
    """Sort the files of ``own`` and its subdirectories by ``formats``: name → ends of file names, in lower case.

    Those ``besides`` are sources already.
    """
    found = Survey({form: [] for form in formats})
    unknown = f"no format is known by this ending (known: {', '.join(e for ends in formats.values() for e in ends)})"
    for path in _files(own):
        if path in besides:
            continue
        if any(part.startswith(".") for part in path.relative_to(own).parts):
            found.skipped.setdefault("hidden, as editors' and systems' files are", []).append(path)
        elif path.is_dir():
            found.skipped.setdefault("a link to a directory; put the files themselves there", []).append(path)
        elif form := _format(path.name.lower(), formats):
            found.taken[form].append(path)
        elif path != own / ABOUT:
            found.skipped.setdefault(unknown, []).append(path)
    found.taken = {form: paths for form, paths in found.taken.items() if paths}
    return found


def refuse_unreadable(own: Path) -> None:
    """Raise one ``DataError`` that names everything that can't be read as a file, by us or by DVC."""
    files = _files(own) if own.is_dir() else []
    problems = [f"{spelled(path)}: {problem}" for path in files if (problem := _problem(path))]
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        listed = "\n  ".join([*problems[:SHOWN], *more])
        raise DataError(f"{own}: {len(problems)} that nobody can read; mend or move away:\n  {listed}")


def refuse_partial_copy(own: Path) -> None:
    """In the copy of the project in which an experiment runs: refuse a folder without the files of the real one."""
    real = project.root() / own
    if real.resolve() == own.resolve():
        return  # no copy
    if lacking := {p.relative_to(real) for p in _files(real)} - {p.relative_to(own) for p in _files(own)}:
        raise DataError(
            f"{own}: this experiment's copy lacks {len(lacking)} of your files ({spelled(min(lacking))}), for git does "
            "not hold them; start it by `python -m pipeline exp …` in place of `dvc exp run …`"
        )


def spelled(path: Path) -> str:
    """A path for a terminal: a name that holds control characters or is not UTF-8 is quoted, its bytes escaped."""
    text = str(path)
    return text if text.isprintable() else repr(os.fsencode(path))[1:]


def _files(own: Path) -> list[Path]:
    """All that is no directory, links to directories included, in a fixed order."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{spelled(Path(error.filename))}: can't be read ({error.strerror}); mend or move away")

    found = [Path(folder, name) for folder, names in _walk(own, refuse) for name in names] if own.exists() else []
    return sorted(found, key=lambda path: path.relative_to(own).as_posix())


def _walk(own: Path, refuse: Callable[[OSError], None]) -> Iterator[tuple[str, Iterable[str]]]:
    for folder, directories, names in os.walk(own, onerror=refuse):
        yield folder, [*names, *(name for name in directories if os.path.islink(os.path.join(folder, name)))]


def _format(name: str, formats: Mapping[str, tuple[str, ...]]) -> str:
    """The format whose ending is the longest that ``name`` has; empty: none."""
    fitting = [(len(end), form) for form, ends in formats.items() for end in ends if name.endswith(end)]
    return max(fitting, default=(0, ""))[1]


def _problem(path: Path) -> str:
    """Why nobody can read this as a file; empty where one can."""
    try:
        path.name.encode("utf-8")
        path.parent.as_posix().encode("utf-8")
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    except OSError as error:
        return f"a link that leads nowhere ({error.strerror})" if path.is_symlink() else f"{error.strerror}"
    if not stat.S_ISREG(mode):
        return "" if stat.S_ISDIR(mode) else "a pipe, socket or device, not a file"
    return "" if os.access(path, os.R_OK) else "not permitted"


def _names(paths: list[Path], own: Path) -> str:
    shown = ", ".join(spelled(path.relative_to(own)) for path in paths[:SHOWN])
    return shown if len(paths) <= SHOWN else f"{shown} and {len(paths) - SHOWN} more"

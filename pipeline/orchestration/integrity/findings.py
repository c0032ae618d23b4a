"""One thing that is not as it should be, and what kind of thing it is: the kind decides what mends it."""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

REPAIR = "python -m pipeline verify --repair"
"""What mends damage, as messages print it."""


class Kind(Enum):
    OUT = auto()
    """Of a file that a stage wrote: restored from an intact copy, or made again by its stage."""
    CACHED = auto()
    """Of DVC's cache: set aside, and put back from an intact copy if there is one."""
    STATE = auto()
    """Of a training's saved state: removed; the training goes on from the one before."""
    DOWNLOAD = auto()
    """Of the download cache: removed; fetched again by the stage that needs it."""
    COMMITTED = auto()
    """Of what git holds: only a commit mends it."""
    FOREIGN = auto()
    """Of a directory that this project did not make: whoever has an intact copy mends it."""
    UNKNOWN = auto()
    """A file that nothing knows.  No damage."""


@dataclass(frozen=True)
class Finding:
    kind: Kind
    path: Path
    """The file, or the directory where no single file can be named."""
    problem: str
    owner: str = ""
    """The out, the saved state or the download that it belongs to, as a path."""

    @property
    def is_damage(self) -> bool:
        return self.kind is not Kind.UNKNOWN

    def line(self, root: Path) -> str:
        """For people: the path as seen from the project."""
        return f"{shown(self.path, root)}: {self.problem}"


def shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

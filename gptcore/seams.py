"""Where the house can be extended: a folder of members, one module each, and what others have installed.

A *seam* is a package in which every module is a member: the module ``orange_tab`` of ``pipeline.corpus.readers`` is
the reader ``orange-tab``, and says so by an attribute that all members of the seam have (``READER``).  A member
of somebody else's is an entry point in the group of the package's name::

    [project.entry-points."pipeline.corpus.readers"]
    csv-gz = "my_readers:CSV_GZ"

So a new member is one new file, no list of members exists, and nothing is imported but the member that is asked for:
what a program doesn't use can't change what it computes, and costs it no time.  An installed member may not
take the name of one of ours.

Rejected: decorators that register (a member is only there once somebody has imported it), and a plugin library such
as pluggy (hooks that all members answer; here one member is chosen by name).
"""

import importlib
import pkgutil
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gptcore.errors import ParameterError


@dataclass(frozen=True)
class Seam:
    """``Seam(package, attribute)[name]`` is a member."""

    package: str
    """Holds our members, and names the entry points of others."""
    attribute: str
    """What a member's module calls it; empty: as the module itself is called."""
    dashes: bool = True
    """Whether a name has dashes where its module has underscores."""

    def names(self) -> list[str]:
        """Every member's name, ours first; nothing is imported but the package."""
        return [*self._ours(), *sorted(point.name for point in self._installed())]

    def __getitem__(self, name: str) -> Any:
        """The member; raises ``KeyError`` where there is none of that name."""
        point = self.place(name)
        return point.load() if name in self._ours() else _load(point)

    def place(self, name: str) -> EntryPoint:
        """Where the member is, before it is imported; raises ``KeyError`` where there is none of that name."""
        if (module := self._ours().get(name)) is not None:
            return EntryPoint(name, f"{self.package}.{module}:{self.attribute or module}", self.package)
        for point in self._installed():
            if point.name == name:
                return point
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def _ours(self) -> dict[str, str]:
        """Name → module."""
        path = importlib.import_module(self.package).__path__
        modules = sorted(found.name for found in pkgutil.iter_modules(path))
        return {module.replace("_", "-") if self.dashes else module: module for module in modules}

    def _installed(self) -> list[EntryPoint]:
        ours = self._ours()
        return [point for point in entry_points(group=self.package) if point.name not in ours]


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise ParameterError(
            f"entry point {point.name!r} of {point.group}: {point.value} can't be loaded ({error}); correct it in the "
            "pyproject.toml that names it, and install that again"
        ) from error

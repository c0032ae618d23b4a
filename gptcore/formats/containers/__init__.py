"""What a model lies in: a directory with safetensors, or one GGUF file; a module each.

A container says what the model is, in the words of a Hugging Face ``config.json``, and gives its tensors by the names
of the family's table (`families`).  It is found by the path's ending, and only that one is imported.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from gptcore.seams import Seam

CONTAINERS = Seam("gptcore.formats.containers", "CONTAINER")
DIRECTORY = "safetensors"
CONFIG_FILE = "config.json"


class Stored(NamedTuple):
    """A tensor as it is described before it is read."""

    dtype: str
    """In the words of safetensors: F32, BF16, …"""
    shape: tuple[int, ...]


class Tensors(Protocol):
    """Reads a tensor by its name."""

    def get_tensor(self, name: str, /) -> Tensor: ...


class Weights(NamedTuple):
    """The open files of a model."""

    path: Path
    """Of the file, or of the index, for messages."""
    stored: dict[str, Stored]
    """Tensors by name."""
    files: Mapping[str, Tensors]
    """Name of a tensor → the open file in which it is."""

    def get(self, name: str) -> Tensor:
        """Read it."""
        return self.files[name].get_tensor(name)


@dataclass(frozen=True)
class Container:
    """A way in which models lie on disk: a member of the seam ``gptcore.formats.containers``, as ``CONTAINER``."""

    stated_in: Callable[[Path], Path]
    """The file that says what the model is."""
    config_fields: Callable[[Path], Any]
    """What it says, as ``config.json`` does; raises ``DataError`` for a file that can't be read."""
    opened: Callable[[Path], AbstractContextManager[Weights]]
    """The weights; raises ``DataError`` for what isn't whole to the byte."""
    files: Callable[[Path], list[Path]]
    """All that ``opened`` reads."""


def container_of(path: Path) -> Container:
    """A directory's, or that of a file with this ending; a path that isn't there is taken for a directory."""
    name = path.suffix.removeprefix(".")
    return CONTAINERS[name if name in CONTAINERS and not path.is_dir() else DIRECTORY]  # type: ignore[no-any-return]

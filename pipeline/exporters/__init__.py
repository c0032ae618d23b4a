"""A model for other programs: written, proven equal, described.

Each format is a module of `formats`, named in ``export.formats``; a format of one's own is an entry point of that
package's name.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gptcore.seams import Seam

if TYPE_CHECKING:  # whoever only asks which formats there are needs no PyTorch
    from gptcore.formats.table import Model
    from gptcore.tokenizer import Tokenizer
    from pipeline.exporters.parity import Reader
    from pipeline.store.checkpoint import About

EXPORTERS = Seam("pipeline.exporters.formats", "EXPORTER")


@dataclass(frozen=True)
class Exported:
    """What is exported."""

    model: "Model"
    tokenizer: "Tokenizer"
    about: "About"

    @property
    def longest(self) -> int:
        """Tokens of a text that the model was made for: tuning may have cut its texts."""
        return self.about.longest or self.model.config.context_length


class Exporter(Protocol):
    """One program's format: a member of this seam, as ``EXPORTER``."""

    folder: str
    """Where in the export it lies; empty: at its top."""

    def write(self, directory: Path, exported: Exported) -> None:
        """Write the model for that program; equal models give equal bytes."""

    def reader(self, directory: Path) -> "AbstractContextManager[Reader]":
        """That program, or another that reads the same, having read what was written: the other side of the proof."""

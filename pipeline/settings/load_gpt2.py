"""Where the foundation of fine-tuning comes from."""

from dataclasses import dataclass

from gptcore.ranges import Checked, relation, wrong


@dataclass(frozen=True)
class LoadGpt2Config(Checked):
    source: str
    """Model directory of any family that is computed (docs/architecture.md); the flag ``--source`` names another."""

    @relation("source")
    def _is_a_path(self) -> str | None:
        printable = self.source.strip() and self.source.isprintable()
        return None if printable else wrong("source", self.source, "a directory whose name is printable text")

"""For whom checkpoints are exported."""

from dataclasses import dataclass, field
from typing import Annotated

from gptcore.ranges import Checked, Each, OneOf, Whole
from pipeline.exporters import EXPORTERS


@dataclass(frozen=True)
class ExportConfig(Checked):
    """For whom, and how much the proof compares."""

    formats: Annotated[list[str], Each(OneOf(EXPORTERS.names))] = field(default_factory=lambda: ["hugging-face"])
    """Members of `pipeline.exporters.formats`; the card states the proof of the first."""
    parity_texts: Annotated[int, Whole(1, 10_000)] = 16
    """Texts: by turns one of a fixed list of many kinds, and random tokens as long as the context."""
    parity_tokens: Annotated[int, Whole(1, 100_000)] = 32
    """New tokens of each greedy continuation."""

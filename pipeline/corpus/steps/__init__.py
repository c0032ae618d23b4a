"""Cleaning, a module a step: documents in, documents out, and how many it dropped or changed.

Which steps run, and in which order, is ``corpus.steps`` in params.yaml; a step of one's own is an entry point of this
package's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from gptcore.ranges import Checked, Each, OneOf
from gptcore.seams import Seam
from pipeline.corpus.document import Document

STEPS = Seam("pipeline.corpus.steps", "STEP")


class Step(Protocol):
    """One cleaning step: a member of this seam, as ``STEP``."""

    def __call__(self, documents: Sequence[Document]) -> list[Document]:
        """The documents that are left, in their order; a function of their texts alone."""


@dataclass(frozen=True)
class CleanConfig(Checked):
    """How the corpus is cleaned."""

    steps: Annotated[list[str], Each(OneOf(STEPS.names), not_empty=False, different=False)]
    """In the order in which they run."""


def clean(documents: Sequence[Document], config: CleanConfig) -> tuple[list[Document], dict[str, int]]:
    """What the steps leave, and how many documents each of them dropped."""
    left, dropped = list(documents), {}
    for name in config.steps:
        step: Step = STEPS[name]
        before, left = len(left), step(left)
        dropped[name] = before - len(left)
    return left, dropped

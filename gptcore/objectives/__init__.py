"""What a model is trained to do: an objective gives batches and their loss.

Each is a member of this seam: a module here, or an entry point ``gptcore.objectives`` of somebody else's, with
``OBJECTIVE``.  One that learns from windows of text has a class method ``from_windows`` besides; ``pretrain.objective``
names it.  One that has ``indices(number)`` too, the numbers of the windows or rows in a batch, lets a training say of
which documents its loss became no number.  One that has ``prepare(directory, batches)`` is let put something onto disk
before the first step (`gptcore.adapters.kept`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from gptcore.seams import Seam

if TYPE_CHECKING:  # whoever only asks which objectives there are needs no PyTorch
    from torch import Tensor

OBJECTIVES = Seam("gptcore.objectives", "OBJECTIVE")

Facts = dict[str, float]
"""What a loss has to say of a batch beside its value; averaged over the batches of a step."""


class Objective(Protocol):
    """Batches and their loss."""

    def batches(self, start: int) -> Iterator[Any]:
        """The batches from number ``start`` on, endlessly: each a function of its number alone."""

    def loss(self, model: Any, batch: Any) -> "tuple[Tensor, Facts]":
        """Scalar loss in nats, and facts."""

"""Next-token prediction over windows of text: what a language model is pretrained to do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from gptcore.data import Batch, ShuffledBatches
from gptcore.kernels.cross_entropy import next_token_loss
from gptcore.model import GPT
from gptcore.objectives import Facts


@dataclass(frozen=True)
class NextToken:
    """The objective over windows in their order of training."""

    windows: ShuffledBatches

    @classmethod
    def from_windows(cls, windows: ShuffledBatches) -> "NextToken":
        return cls(windows)

    def batches(self, start: int) -> Iterator[Batch]:
        return self.windows.starting_at(start)

    def indices(self, number: int) -> Sequence[int]:
        """The windows of one batch."""
        return self.windows.indices(number).tolist()

    def loss(self, model: GPT, batch: Batch) -> tuple[Tensor, Facts]:
        return language_loss(model, batch), {}


def language_loss(model: GPT, batch: Batch) -> Tensor:
    """Next-token cross-entropy in nats/token of x, y (B, T)."""
    x, y = batch
    return next_token_loss(model.hidden(x), model.head.weight, y)


OBJECTIVE = NextToken

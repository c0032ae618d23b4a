"""Telling which label a text has: cross-entropy over the labels, in batches of texts of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gptcore.data import Batch, EnteringBatch, LengthBatches, pad
from gptcore.model import Classifier
from gptcore.objectives import Facts


@dataclass(frozen=True)
class Classification:
    """The objective over encoded ``rows`` and the indices of their labels."""

    rows: Sequence[Sequence[int]]
    targets: Sequence[int]
    batch_rows: int
    pad_id: int
    seed: int

    def batches(self, start: int) -> Iterator[Batch]:
        for indices in self._order().starting_at(start):
            yield pad([self.rows[i] for i in indices], self.pad_id), torch.tensor([self.targets[i] for i in indices])

    def indices(self, number: int) -> list[int]:
        """The rows of one batch."""
        return self._order().batch(number)

    def loss(self, model: Classifier, batch: Batch | EnteringBatch) -> tuple[Tensor, Facts]:
        return classification_loss(model, batch), {}

    def _order(self) -> LengthBatches:
        return LengthBatches([len(row) for row in self.rows], self.batch_rows, self.seed)


def classification_loss(model: Classifier, batch: Batch | EnteringBatch) -> Tensor:
    """Cross-entropy in nats of ids (B, T) and labels (B)."""
    ids, labels, *entering = batch
    return F.cross_entropy(model(ids, *entering).float(), labels)


OBJECTIVE = Classification

"""Batches of rows of similar length, in a shuffled order that is a pure function of the step.

Rows are sorted by length once and cut into batches; a keyed permutation (`gptcore.data.permute`) shuffles
the batches anew in each epoch.  Little of a batch is padding, nothing has to be saved to resume.  The
price: the same rows meet in every epoch.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from gptcore.data import permute


class LengthBatches:
    """Index batches over rows of the given ``lengths``; the last, shorter batch is used too."""

    def __init__(self, lengths: Sequence[int], batch_rows: int, seed: int) -> None:
        order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
        self.batches = [order[i : i + batch_rows] for i in range(0, len(order), batch_rows)]
        self.seed = seed

    def batch(self, step: int) -> list[int]:
        """Row numbers of the 0-based ``step``."""
        epoch, position = divmod(step, len(self.batches))
        return self.batches[int(permute(np.array([position]), len(self.batches), (self.seed, epoch))[0])]

    def starting_at(self, step: int) -> Iterator[list[int]]:
        while True:
            yield self.batch(step)
            step += 1

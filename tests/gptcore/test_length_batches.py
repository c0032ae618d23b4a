"""Length batches: every row once an epoch, similar lengths together, the same from any step."""

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gptcore.data import LengthBatches

lengths = st.lists(st.integers(1, 200), min_size=1, max_size=300)


@given(lengths, st.integers(1, 20), st.integers(0, 5))
def test_each_epoch_has_every_row_once(rows: list[int], size: int, seed: int) -> None:
    batches = LengthBatches(rows, size, seed)
    for epoch in range(2):
        start = epoch * batches.batches_per_epoch
        seen = [i for b in islice(batches.starting_at(start), batches.batches_per_epoch) for i in b]
        assert sorted(seen) == list(range(len(rows)))


@given(lengths, st.integers(1, 20), st.integers(0, 30))
def test_a_batch_depends_on_its_step_only(rows: list[int], size: int, step: int) -> None:
    one, other = LengthBatches(rows, size, 1), LengthBatches(rows, size, 1)
    assert next(islice(one.starting_at(0), step, None)) == other.batch(step)


def test_epochs_and_seeds_differ_and_padding_is_small() -> None:
    rows = np.random.default_rng(0).integers(10, 300, 2000).tolist()
    batches = LengthBatches(rows, 16, 1)
    n = batches.batches_per_epoch
    first = [batches.batch(i) for i in range(n)]
    assert first != [batches.batch(n + i) for i in range(n)]
    assert first != [LengthBatches(rows, 16, 2).batch(i) for i in range(n)]
    padded = sum(len(b) * max(rows[i] for i in b) for b in first)
    unsorted = sum(16 * max(rows[i : i + 16]) for i in range(0, 2000, 16))
    assert padded < 1.15 * sum(rows) < 0.7 * unsorted

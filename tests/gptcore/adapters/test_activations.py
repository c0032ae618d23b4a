"""What is kept on disk is what was put there, after kills and flipped bits too, and takes no memory."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptcore.adapters.activations import PIECE_TOKENS, Activations
from gptcore.errors import DataError, DiskError

LENGTHS = [900, 3, 2000, 1, 1500, 700, 5000, 2, 1100]


def values(row: int, length: int, width: int = 3) -> torch.Tensor:
    return torch.randn(length, width, generator=torch.Generator().manual_seed(row))


def fill(store: Activations, pieces: list[int]) -> None:
    for piece in pieces:
        rows = store.pieces[piece]
        longest = max(int(store.lengths[row]) for row in rows)
        batch = torch.full((len(rows), longest, store.width), torch.nan)  # what padding has is nobody's business
        for place, row in zip(batch, rows, strict=True):
            place[: store.lengths[row]] = values(row, int(store.lengths[row]), store.width)
        store.write(piece, batch)


def filled(directory: Path, key: str = "key") -> Activations:
    store = Activations(directory, LENGTHS, 3, key)
    fill(store, store.open())
    return store


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_row_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 2500), min_size=1, max_size=12))
    store = Activations(tmp_path_factory.mktemp("kept"), lengths, 2, "key")
    fill(store, data.draw(st.permutations(store.open())))
    assert Activations(store.directory, lengths, 2, "key").open() == []
    assert sorted(row for piece in store.pieces for row in piece) == list(range(len(lengths)))
    assert all(len(p) == 1 or len(p) * max(lengths[i] for i in p) <= PIECE_TOKENS for p in store.pieces)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    width = data.draw(st.integers(1, 3000))
    for row, found in zip(rows, store.read(rows, width), strict=True):
        expected = torch.zeros(width, 2)
        expected[: lengths[row]] = values(row, lengths[row], 2)[:width]
        assert torch.equal(found, expected)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), name=st.sampled_from(["activations", "sums"]))
def test_a_flipped_bit_costs_one_piece(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, name: str):
    store = filled(tmp_path_factory.mktemp("kept"))
    before = (store.directory / "activations").read_bytes()
    content = np.fromfile(store.directory / name, dtype=np.uint8)
    content[place % len(content)] ^= 1 << bit
    content.tofile(store.directory / name)
    with pytest.warns(UserWarning, match="activations: 1 of 4 pieces are damaged"):
        missing = store.open()
    assert len(missing) == 1
    fill(store, missing)
    assert (store.directory / "activations").read_bytes() == before
    assert store.open() == []


@pytest.mark.parametrize("name", ["activations", "sums"])
def test_a_file_that_is_cut_or_gone_is_made_whole(tmp_path: Path, name: str) -> None:
    store = filled(tmp_path)
    before = (tmp_path / "activations").read_bytes()
    path = tmp_path / name
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        missing = store.open()
    assert 0 < len(missing) < len(store.pieces)
    path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fill(store, store.open())
    assert (tmp_path / "activations").read_bytes() == before


def test_what_is_of_other_weights_does_not_count(tmp_path: Path) -> None:
    store = filled(tmp_path)
    other = Activations(tmp_path, LENGTHS, 3, "another key")
    with pytest.warns(UserWarning, match="4 of 4 pieces are damaged or of other rows or weights"):
        assert other.open() == list(range(len(store.pieces)))


def test_a_disk_that_is_too_small_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"activations of 2 rows take 8,000,000\.0 GB, and .* are free; buy another"):
        Activations(tmp_path, [10**9, 10**9], 10**6, "key").open("buy another")
    assert (tmp_path / "activations").stat().st_size == 0


def test_a_file_that_ends_while_it_is_used_is_an_error(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with open(tmp_path / "activations", "r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match="ended within row 6; delete"):
        store.read([3, 6], 10)


FLAT = """
import resource, sys, torch
from pathlib import Path
from gptcore.adapters.activations import Activations
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
store = Activations(Path(sys.argv[1]), [200] * 1000, 256, "key")
missing = store.open()
for piece in missing[:2]: store.write(piece, torch.ones(len(store.pieces[piece]), 200, 256))
before = peak()
for piece in missing[2:]: store.write(piece, torch.ones(len(store.pieces[piece]), 200, 256))
assert store.open() == []
for start in range(0, 1000, 8): assert store.read(range(start, start + 8), 200).min() == 1
print(store.size / 2**20, peak() - before)
"""


def test_it_takes_no_more_memory_however_much_is_kept(tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", FLAT, str(tmp_path)], capture_output=True, text=True, check=True)
    kept, grown = map(float, told.stdout.split())
    assert kept > 190
    assert grown < 40, "MiB"

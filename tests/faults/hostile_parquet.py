"""Token files that mean harm: Parquet, changed in one way that is drawn from a seed, behind a manifest that fits.

The manifest would tell any change; it is made anew, so that the reader itself is tried.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Spoil = Callable[[random.Random, Path], str]
"""Changes a file and says how."""
Change = Callable[[pa.Table], pa.Table]


def bytes_changed(rng: random.Random, path: Path) -> str:
    """Anywhere, or in the footer, which no checksum covers."""
    content = bytearray(path.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    begin = rng.choice((0, len(content) - footer))
    n = rng.choice((1, 1, 2, 8))
    for _ in range(n):
        content[rng.randrange(begin, len(content))] = rng.randrange(256)
    path.write_bytes(content)
    return f"{n} bytes changed{' in the footer' if begin else ''}"


def bit_flipped(rng: random.Random, path: Path) -> str:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"a bit of byte {at} of {len(content)} flipped"


def cut_short(rng: random.Random, path: Path) -> str:
    content = path.read_bytes()
    left = rng.randrange(len(content))
    path.write_bytes(content[:left] if rng.random() < 0.5 else content[left:])
    return f"cut at {left}"


def footer_length_changed(rng: random.Random, path: Path) -> str:
    content = path.read_bytes()
    length = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, len(content), len(content) - 8))
    path.write_bytes(content[:-8] + length.to_bytes(4, "little") + content[-4:])
    return f"a footer of {length} bytes"


def column_of_another_type(rng: random.Random, path: Path) -> str:
    name, kind = rng.choice(
        (("ids", pa.list_(pa.int64())), ("ids", pa.list_(pa.float64())), ("ids", pa.large_list(pa.uint32())),
         ("ids", pa.list_(pa.string())), ("ids", pa.list_(pa.uint8())), ("start", pa.string()), ("start", pa.float64()),
         ("doc_id", pa.binary()), ("doc_id", pa.large_string()), ("n_tokens", pa.int32()))
    )  # fmt: skip

    def change(table: pa.Table) -> pa.Table:
        values = (
            [[i % 100 for i in row] for row in table[name].to_pylist()] if name == "ids" else table[name].to_pylist()
        )
        if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
            values = [[str(i) for i in row] for row in values]
        if name in ("start", "doc_id"):
            values = [v if kind == pa.large_string() else _as(kind, v) for v in values]
        return table.set_column(table.schema.get_field_index(name), name, pa.array(values, kind))

    return _rewritten(path, change, f"{name} as {kind}")


def ids_out_of_range(rng: random.Random, path: Path) -> str:
    number = rng.choice((300, 10_000, 2**31, 2**32 - 1))
    return _with_ids(rng, path, lambda row: [*row[:-1], number], f"an id of {number}")


def null_id(rng: random.Random, path: Path) -> str:
    return _with_ids(rng, path, lambda row: [*row[:-1], None], "an id that is null")


def null_row(rng: random.Random, path: Path) -> str:
    return _with_ids(rng, path, lambda row: None, "ids that are null")


def other_number_of_tokens(rng: random.Random, path: Path) -> str:
    """Than ``n_tokens`` says."""
    return _with_ids(rng, path, lambda row: row[:-1], "a token gone")


def null_cell(rng: random.Random, path: Path) -> str:
    name = rng.choice(("doc_id", "source", "file", "start", "end", "sha256", "n_tokens"))

    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[rng.randrange(len(values))] = None
        at = table.schema.get_field_index(name)
        return table.set_column(at, name, pa.array(values, table.schema.field(at).type))

    return _rewritten(path, change, f"null in {name}")


def span_absurd(rng: random.Random, path: Path) -> str:
    name, number = rng.choice((("start", -1), ("end", -5), ("start", 2**62), ("end", 0)))

    def change(table: pa.Table) -> pa.Table:
        values = [number, *table[name].to_pylist()[1:]]
        return table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.int64()))

    return _rewritten(path, change, f"{name} = {number}")


def column_gone(rng: random.Random, path: Path) -> str:
    names = ("doc_id", "source", "file", "start", "end", "sha256", "n_tokens", "ids")
    name = rng.choice(names)
    return _rewritten(path, lambda table: table.drop_columns([name]), f"{name} gone")


def column_twice(rng: random.Random, path: Path) -> str:
    return _rewritten(path, lambda table: table.append_column("ids", table["ids"]), "ids twice")


def column_renamed(rng: random.Random, path: Path) -> str:
    name = rng.choice(("\x1b[2J", "", "IDS", "x" * 100_000))
    return _rewritten(
        path, lambda table: table.rename_columns([*table.schema.names[:-1], name]), f"ids is {name[:20]!r}"
    )


def many_columns(rng: random.Random, path: Path) -> str:
    def change(table: pa.Table) -> pa.Table:
        for i in range(2_000):
            table = table.append_column(f"c{i}", table["start"])
        return table

    return _rewritten(path, change, "two thousand columns more")


def long_bomb(rng: random.Random, path: Path) -> str:
    """A hundred million equal ids in some kilobytes."""
    n = 100_000_000

    def change(table: pa.Table) -> pa.Table:
        ids = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), pa.repeat(pa.scalar(7, pa.uint32()), n))
        first = table.slice(0, 1)
        first = first.set_column(first.schema.get_field_index("n_tokens"), "n_tokens", pa.array([n], pa.int64()))
        return first.set_column(first.schema.get_field_index("ids"), "ids", ids)

    return _rewritten(path, change, "a bomb of 400 MB")


def rows_gone(rng: random.Random, path: Path) -> str:
    """All of them: an empty split is lawful."""
    return _rewritten(path, lambda table: table.slice(0, 0), "no rows")


def in_row_groups(rng: random.Random, path: Path) -> str:
    """The same rows, otherwise cut and packed: lawful."""
    table = pq.read_table(path)
    pq.write_table(
        table, path, row_group_size=2, compression=rng.choice(("none", "snappy", "gzip")), use_dictionary=False
    )
    return "other row groups"


SPOILERS: tuple[Spoil, ...] = (
    bytes_changed, bit_flipped, ids_out_of_range, null_id, bytes_changed, null_row, other_number_of_tokens, null_cell,
    bit_flipped, column_of_another_type, column_gone, bytes_changed, column_twice, column_renamed, cut_short,
    footer_length_changed, span_absurd, rows_gone, in_row_groups, many_columns, bytes_changed, long_bomb,
)  # fmt: skip
MUST_BE_REFUSED: tuple[Spoil, ...] = (
    ids_out_of_range, null_id, null_row, other_number_of_tokens, null_cell, column_of_another_type, column_gone,
    column_twice, column_renamed, many_columns, span_absurd,
)  # fmt: skip
LAWFUL: tuple[Spoil, ...] = (rows_gone, long_bomb)
"""What reads right and is not what it was."""


def _with_ids(rng: random.Random, path: Path, row: Callable[[list[int]], Any], what: str) -> str:
    """With the ids of one document that has some changed."""

    def change(table: pa.Table) -> pa.Table:
        rows = table["ids"].to_pylist()
        at = rng.choice([i for i, ids in enumerate(rows) if ids])
        rows[at] = row(rows[at])
        return table.set_column(table.schema.get_field_index("ids"), "ids", pa.array(rows, pa.list_(pa.uint32())))

    return _rewritten(path, change, what)


def _rewritten(path: Path, change: Change, what: str) -> str:
    table = change(pq.read_table(path))
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    return what


def _as(kind: pa.DataType, value: Any) -> Any:
    if pa.types.is_string(kind):
        return str(value)
    return str(value).encode() if pa.types.is_binary(kind) else float(value)

"""Weights that mean harm: a safetensors file, changed in one way that is drawn from a seed.

The format is eight bytes of the header's length, a header in JSON (name → dtype, shape, offsets), the numbers.  It has
no checksum, so what changes numbers into other finite numbers can't be told without a manifest and isn't tried here.
"""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

Spoil = Callable[[random.Random, bytes], bytes]
Header = dict[str, Any]

DTYPES = ("F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "X", "", None, 7)
SIZES = (0, 1, -1, 2**31, 2**63, 2**64, 10**30, 1.5, True, None, "16", [16])


def dtype_changed(rng: random.Random, content: bytes) -> bytes:
    header, numbers = parts(content)
    _entry(rng, header)["dtype"] = rng.choice(DTYPES)
    return joined(header, numbers)


def shape_changed(rng: random.Random, content: bytes) -> bytes:
    header, numbers = parts(content)
    entry = _entry(rng, header)
    shape = list(entry["shape"])
    turned = shape[::-1] if len(set(shape)) > 1 else [*shape, 1]
    changed = [rng.choice(SIZES) if rng.random() < 0.5 else n for n in shape]
    entry["shape"] = rng.choice((turned, [*shape, 1], [], changed, None, "16", [2**32, 2**32], shape * 100_000))
    return joined(header, numbers)


def offsets_changed(rng: random.Random, content: bytes) -> bytes:
    """Overlapping, beyond the end, backwards, with a hole."""
    header, numbers = parts(content)
    entry = _entry(rng, header)
    begin, end = entry["data_offsets"]
    entry["data_offsets"] = rng.choice(
        ([end, begin], [begin + 4, end + 4], [0, end - begin], [begin, len(numbers) + 4], [begin, 2**64], [-4, end],
         [2**63, 2**63 + end - begin], [begin], [], None, [begin, end, end], [begin, end - 4])
    )  # fmt: skip
    return joined(header, numbers)


def tensor_renamed(rng: random.Random, content: bytes) -> bytes:
    header, numbers = parts(content)
    name = _name(rng, header)
    other = rng.choice((f"{name}x", "", "../../etc/passwd", "\x1b[31m", "__class__", "x" * 100_000, name.upper()))
    return joined({(other if key == name else key): value for key, value in header.items()}, numbers)


def tensor_gone(rng: random.Random, content: bytes) -> bytes:
    """With its numbers, so that the file is a good one of another model."""
    header, numbers = parts(content)
    begin, end = header.pop(_name(rng, header))["data_offsets"]
    for entry in _entries(header).values():
        entry["data_offsets"] = [at - (end - begin if at >= end else 0) for at in entry["data_offsets"]]
    return joined(header, numbers[:begin] + numbers[end:])


def tensor_more(rng: random.Random, content: bytes) -> bytes:
    header, numbers = parts(content)
    name = rng.choice(("extra.weight", "blocks.999999.ln_1.weight", "\x1b[2J", "transformer.h.0.attn.bias"))
    header[name] = {"dtype": "F32", "shape": [2], "data_offsets": [len(numbers), len(numbers) + 8]}
    return joined(header, numbers + bytes(8))


def many_tensors(rng: random.Random, content: bytes) -> bytes:
    """A hundred thousand empty ones."""
    header, numbers = parts(content)
    end = len(numbers)
    extra = {f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [end, end]} for i in range(100_000)}
    return joined({**header, **extra}, numbers)


def tensor_twice(rng: random.Random, content: bytes) -> bytes:
    """Under the same name, the second time with the place of another tensor of its size or of its own shape turned."""
    header, numbers = parts(content)
    name = _name(rng, header)
    text = _text(header)
    second = json.dumps({**header[name], "shape": header[name]["shape"][::-1]}).encode()
    return _framed(text[:-1] + b"," + json.dumps(name).encode() + b":" + second + b"}", numbers)


def metadata_changed(rng: random.Random, content: bytes) -> bytes:
    header, numbers = parts(content)
    header["__metadata__"] = rng.choice(
        (None, 7, [], {"a": 1}, {"a": {"b": {}}}, {"\x1b": "\x1b[2J"}, {"a": "x" * 10**6})
    )
    return joined(header, numbers)


def not_finite(rng: random.Random, content: bytes) -> bytes:
    header, numbers = parts(content)
    at = rng.randrange(len(numbers) // 4) * 4
    bad = struct.pack("<f", rng.choice((float("nan"), float("inf"), float("-inf"))))
    return joined(header, numbers[:at] + bad + numbers[at + 4 :])


def header_length_changed(rng: random.Random, content: bytes) -> bytes:
    length = rng.choice((0, 1, len(content), len(content) + 1, 10**8 + 1, 2**31, 2**63, 2**64 - 1))
    return struct.pack("<Q", length) + content[8:]


def header_bytes_changed(rng: random.Random, content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(8 + length)] = rng.randrange(256)
    return bytes(changed)


def header_nested(rng: random.Random, content: bytes) -> bytes:
    _, numbers = parts(content)
    return _framed(b'{"a":' * 50_000 + b"0" + b"}" * 50_000, numbers)


def cut_short(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def longer(rng: random.Random, content: bytes) -> bytes:
    return content + bytes(rng.choice((1, 4, 4096)))


SPOILERS: tuple[Spoil, ...] = (
    dtype_changed, shape_changed, shape_changed, offsets_changed, offsets_changed, tensor_renamed, tensor_gone,
    tensor_more, many_tensors, tensor_twice, metadata_changed, not_finite, header_length_changed, header_bytes_changed,
    header_bytes_changed, header_nested, cut_short, longer,
)  # fmt: skip


def parts(content: bytes) -> tuple[Header, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Header, numbers: bytes) -> bytes:
    return _framed(_text(header), numbers)


def _framed(text: bytes, numbers: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + numbers


def _text(header: Header) -> bytes:
    return json.dumps(header).encode()


def _entries(header: Header) -> Header:
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _name(rng: random.Random, header: Header) -> str:
    return rng.choice(list(_entries(header)))


def _entry(rng: random.Random, header: Header) -> Header:
    entry: Header = header[_name(rng, header)]
    return entry

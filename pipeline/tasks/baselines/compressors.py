"""General-purpose compressors as language models: what a text adds to the compressed training text."""

import gzip
import lzma
from collections.abc import Callable

from gptcore.errors import DataError

MIN_XZ_DICTIONARY, MAX_XZ_DICTIONARY = 4 << 10, 3 << 29
"""Bytes; liblzma's own limits (4 KiB and 1.5 GiB)."""


def gzip_bits_per_byte(train: bytes, test: bytes) -> float:
    """What ``test`` adds to a gzip of ``train``; gzip looks back 32 KiB only, so it uses little of a corpus."""
    return _added_bits_per_byte(lambda text: gzip.compress(text, compresslevel=9, mtime=0), train, test)


def xz_bits_per_byte(train: bytes, test: bytes) -> float:
    """What ``test`` adds to an xz of ``train``, with a dictionary that reaches back over the whole corpus.

    A dictionary of the corpus's size costs about 11 times that in memory; preset 9's own 64 MiB would cost
    the same 0.7 GB for every corpus and be too short for a larger one.
    """
    reach = min(max(len(train) + len(test), MIN_XZ_DICTIONARY), MAX_XZ_DICTIONARY)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": reach}]
    return _added_bits_per_byte(lambda text: lzma.compress(text, lzma.FORMAT_RAW, filters=filters), train, test)


def _added_bits_per_byte(compress: Callable[[bytes], bytes], train: bytes, test: bytes) -> float:
    if not test:
        raise DataError("the held-out text is empty: bits/byte needs at least one byte; take a larger test split")
    return 8 * (len(compress(train + test)) - len(compress(train))) / len(test)

"""What readers of text formats share: bytes that are UTF-8, lines with their offsets, labels that were declared.

Files are read whole: memory is about three times the largest file beside the documents themselves.
"""

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from gptcore.errors import DataError
from gptcore.memory import memory
from pipeline.store.raw import Layout

COPIES = 4
"""How often a text is in memory while it is read and parsed."""
_BOM = b"\xef\xbb\xbf"


def read_text(stream: BinaryIO, name: str) -> tuple[bytes, int]:
    """The file's bytes without a byte order mark, and the offset of the first; refuses what is not UTF-8 text."""
    content = _read_whole(stream, name)
    check_text(content, name)
    head = len(_BOM) if content.startswith(_BOM) else 0
    return content[head:], head


def _read_whole(stream: BinaryIO, name: str) -> bytes:
    """Refuses what this machine can't hold in memory before it is read: a sparse file of a terabyte takes no disk."""
    size, room = _size(stream), memory()[0] // COPIES
    if room and size > room:
        raise DataError(
            f"{name}: {size / 1e9:,.1f} GB; this machine can read {room / 1e9:,.1f} GB at once; split the file"
        )
    return stream.read()


def _size(stream: BinaryIO) -> int:
    """Of the file; 0 for a stream that is none, such as what a compressed file unpacks to."""
    try:
        return os.fstat(stream.fileno()).st_size
    except OSError:
        return 0


def check_text(content: bytes, name: str) -> None:
    """Refuse what is not UTF-8 text: better no run than one on wrong characters."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        guess = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "WINDOWS-1252"
        raise DataError(
            f"{name}: expected UTF-8, found byte 0x{content[error.start]:02x} at offset {error.start} "
            f"({error.reason}); convert it, for example `iconv -f {guess} -t UTF-8`"
        ) from None
    if (offset := content.find(b"\0")) >= 0:
        raise DataError(f"{name}: expected text, found a NUL byte at offset {offset}; remove it or the file")


def numbered(lines: Iterable[bytes], start: int) -> Iterator[tuple[int, bytes]]:
    """Pair each line, freed of its end, with the offset of its first byte."""
    for line in lines:
        yield start, line.rstrip(b"\r\n")
        start += len(line)


def check_label(label: str, layout: Layout, name: str, number: int) -> None:
    if layout.labels and label not in layout.labels:
        raise DataError(
            f"{name}, line {number}: expected one of the labels {list(layout.labels)}, found {label!r}; "
            "correct the row, or declare the label in params.yaml"
        )


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can spell the text: JSON can spell half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

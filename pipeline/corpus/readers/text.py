"""Plain text: one document a file."""

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.corpus.readers import Row, Skipped
from pipeline.corpus.utf8 import read_text
from pipeline.store.raw import Layout


class Text:
    suffixes = (".txt",)
    columns = False

    def read(self, stream: BinaryIO, layout: Layout, name: str, skipped: Skipped) -> Iterator[Row]:
        content, head = read_text(stream, name)
        yield Row(head, head + len(content), content.decode("utf-8"))

    def text(self, content: bytes, layout: Layout) -> str:
        return content.decode("utf-8")


READER = Text()

"""Train, validation and test: which document goes where.

With many documents each goes by the hash of its text, so that its place never changes when others are
added, and equal texts can't be on both sides.  With few (a single ``.txt`` must just work) each is cut
into contiguous blocks: the head trains, the tail is held out.  The vocabulary is trained on the same
training text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from gptcore.artifact import sha256_text
from gptcore.errors import DataError
from gptcore.ranges import Checked, Number, Whole
from pipeline.corpus.document import Document
from pipeline.store.raw import Source
from pipeline.store.splits import SPLITS

Fraction = Annotated[float, Number(0, 0.5, open_low=True, open_high=True)]


@dataclass(frozen=True)
class SplitConfig(Checked):
    """How much is held out."""

    val_fraction: Fraction
    """Share of the text on which choices are made."""
    test_fraction: Fraction
    """Share of the text on which results are reported."""
    min_documents: Annotated[int, Whole(0, 1_000_000_000)]
    """With fewer documents than this, each is cut into blocks instead of going whole to one split."""


def split_documents(documents: Sequence[Document], config: SplitConfig) -> dict[str, list[Document]]:
    """Split → its documents in their first order; ``documents`` are all different."""
    if len(documents) < config.min_documents:
        parts = _by_blocks(documents, config)
    else:
        parts = {split: [d for d in documents if _split_of(d, config) == split] for split in SPLITS}
    if empty := [split for split in SPLITS if not any(d.text.strip() for d in parts[split])]:
        raise DataError(
            f"the corpus has {len(documents)} document(s) and leaves nothing for {', '.join(empty)}; "
            "add text, or raise split.min_documents above the number of documents to cut each into blocks"
        )
    return parts


def place_of(text: str) -> float:
    """A number in [0, 1) that depends on nothing but the text, evenly spread over texts."""
    return int(sha256_text(text)[:12], 16) / 16**12


def labelled_split(source: Source, stated: str, text: str) -> str:
    """Of a labelled text: what its source says, else what stands in its row, else train or test by its hash.

    The hash's other end than validation is taken from (``finetune_classify.val_fraction``), so that neither share
    empties the other.
    """
    if source.split or source.layout.split_column:
        return source.split or stated
    return "test" if place_of(text) >= 1 - source.test_fraction else "train"


def _split_of(document: Document, config: SplitConfig) -> str:
    place = place_of(document.text)
    if place < config.test_fraction:
        return "test"
    return "val" if place < config.test_fraction + config.val_fraction else "train"


def _by_blocks(documents: Sequence[Document], config: SplitConfig) -> dict[str, list[Document]]:
    parts: dict[str, list[Document]] = {split: [] for split in SPLITS}
    for document in documents:
        n = len(document.text)
        first = _break_near(document.text, int(n * (1 - config.val_fraction - config.test_fraction)))
        second = _break_near(document.text, int(n * (1 - config.test_fraction)))
        for split, begin, end in (("train", 0, first), ("val", first, second), ("test", second, n)):
            if begin < end:
                parts[split].append(_cut(document, begin, end))
    return parts


def _break_near(text: str, position: int) -> int:
    """The end of the line, else of the word, at or after ``position``."""
    for mark, reach in (("\n", 2000), (" ", 200)):
        if (found := text.find(mark, position, position + reach)) >= 0:
            return found + 1
    return position


def _cut(document: Document, begin: int, end: int) -> Document:
    """Characters ``begin`` … ``end``; the byte span is exact where the raw bytes are the text's own.

    After a change of line ends, or inside JSON, the piece keeps the span of the whole document.
    """
    piece = replace(document, text=document.text[begin:end])
    if len(document.text.encode("utf-8")) != document.end - document.start:
        return piece
    start = document.start + len(document.text[:begin].encode("utf-8"))
    return replace(piece, start=start, end=start + len(piece.text.encode("utf-8")))

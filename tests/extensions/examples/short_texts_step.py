"""A cleaning step: documents of fewer than thirty characters say too little to learn from."""

from collections.abc import Sequence

from pipeline.corpus.document import Document

LEAST = 30


def drop_short_texts(documents: Sequence[Document]) -> list[Document]:
    return [document for document in documents if len(document.text) >= LEAST]

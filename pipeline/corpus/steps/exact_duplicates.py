"""Of documents with the same text only the first stays."""

from collections.abc import Sequence

from gptcore.artifact import sha256_text
from pipeline.corpus.document import Document


def exact_duplicates(documents: Sequence[Document]) -> list[Document]:
    first: dict[str, Document] = {}
    for document in documents:
        first.setdefault(sha256_text(document.text), document)
    return list(first.values())


STEP = exact_duplicates

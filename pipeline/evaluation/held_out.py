"""Held-out text: bits/byte of a model, of n-gram models and of compressors on the same bytes.

The text is decoded from the tokens, checked against each document's sha256 and encoded anew with each model's own
vocabulary: bits/byte compares models of different vocabularies only on the same bytes.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gptcore.artifact import sha256_text
from gptcore.errors import DataError
from gptcore.evaluate import bits_per_byte, document_nats, perplexity
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from pipeline.store.tokens import TokenDocument, Tokens
from pipeline.tasks.baselines.compressors import gzip_bits_per_byte, xz_bits_per_byte
from pipeline.tasks.baselines.ngrams import kneser_ney_nats

NGRAM_ORDERS = (1, 2, 3, 5)
DECIMALS = 4


@dataclass(frozen=True)
class HeldOut:
    """A part of the corpus as text and as tokens."""

    texts: list[str]
    ids: list[np.ndarray]
    """The same documents in the corpus's own vocabulary."""
    tokenizer: Tokenizer
    """That vocabulary."""

    @cached_property
    def content(self) -> bytes:
        """All documents, one after the other."""
        return "".join(self.texts).encode("utf-8")


def read(tokens: Tokens, vocabulary: Tokenizer, name: str) -> HeldOut:
    documents = tokens.documents(name)
    return HeldOut([_text(document, vocabulary) for document in documents], [d.ids for d in documents], vocabulary)


def _text(document: TokenDocument, tokenizer: Tokenizer) -> str:
    """The document's text, which is exactly what was tokenized."""
    try:
        text = tokenizer.decode_bytes(document.ids.tolist()).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        text = ""
    if sha256_text(text) != document.sha256:
        raise DataError(
            f"document {document.doc_id}: its tokens don't decode to the text they were made from, so they were made "
            "with another vocabulary; run the stage `tokenize` again"
        )
    return text


def compressors(train: HeldOut, test: HeldOut) -> dict[str, float]:
    return {
        "gzip": rounded(gzip_bits_per_byte(train.content, test.content)),
        "xz": rounded(xz_bits_per_byte(train.content, test.content)),
    }


def ngrams(train: HeldOut, test: HeldOut) -> dict[str, float]:
    scores = {}
    for order in NGRAM_ORDERS:
        nats = kneser_ney_nats(train.ids, test.ids, order, test.tokenizer.n_vocab, test.tokenizer.eot)
        scores[f"kneser_ney_{order}"] = rounded(bits_per_byte(nats, len(test.content)))
    return scores


def language(
    model: GPT, tokenizer: Tokenizer, test: HeldOut, *, context: int, stride: int, batch_windows: int
) -> dict[str, Any]:
    """Of one model in windows of ``context`` tokens; ``stride`` 0 is half of them."""
    documents = [tokenizer.encode_to_numpy(text) for text in test.texts]
    n_tokens = sum(map(len, documents))
    nats = document_nats(
        model,
        documents,
        tokenizer.eot,
        context=context,
        stride=stride or None,
        batch_windows=batch_windows,
        dtype="auto",
    )
    return {
        "bits_per_byte": rounded(bits_per_byte(nats, len(test.content))),
        "nats_per_token": rounded(nats / n_tokens),
        "perplexity": rounded(perplexity(nats, n_tokens)),
        "tokens": n_tokens,
    }


def rounded(value: float) -> float:
    return round(value, DECIMALS)

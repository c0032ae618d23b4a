"""Raw documents → token ids in Parquet, one row a document, a file a split.

Each row says where its text lies in the raw file (bytes from … to) and the text's sha256, so any token can
be traced back.  Ids exclude end-of-text, which ``windows`` inserts.  Exact duplicates are left out and
counted. Encoding runs at some 8–20 MB/s on one core.
"""

from pathlib import Path
from typing import Any

from gptcore.artifact import commit, open_verified
from gptcore.tokenizer import Tokenizer
from pipeline.artifacts import SPLITS, TOKENS, TokenDocument, tokens_content_hash, write_tokens
from pipeline.corpus import Document, describe_sources, read_documents
from pipeline.splits import SplitConfig, split_documents, text_hash


def tokenize(raw: Path, tokenizer: Path, out: Path, split: SplitConfig) -> dict[str, Any]:
    vocabulary = open_verified(tokenizer, "tokenizer")
    encoder = Tokenizer.load(tokenizer)
    documents, skipped = read_documents(raw)
    parts, duplicates = split_documents(documents, split)
    rows = {name: [_row(encoder, document) for document in parts[name]] for name in SPLITS}
    facts = {
        "tokenizer": encoder.fingerprint,
        "n_vocab": encoder.n_vocab,
        "eot": encoder.eot,
        "sources": describe_sources(raw, "corpus"),
    }
    inputs = {"raw": open_verified(raw, "raw").content_hash, "tokenizer": vocabulary.content_hash}
    with commit(out, kind=TOKENS, config=facts, inputs=inputs, content_hash=tokens_content_hash) as draft:
        for name in SPLITS:
            write_tokens(draft, name, rows[name])
    return {
        "documents": {name: len(rows[name]) for name in SPLITS},
        "tokens": {name: sum(len(row.ids) for row in rows[name]) for name in SPLITS},
        "bytes": {name: sum(len(d.text.encode("utf-8")) for d in parts[name]) for name in SPLITS},
        "bytes_per_token": {name: _bytes_per_token(parts[name], rows[name]) for name in SPLITS},
        "duplicates": duplicates,
        "skipped_rows": skipped,
    }


def _row(encoder: Tokenizer, document: Document) -> TokenDocument:
    return TokenDocument(
        doc_id=f"{document.source}/{document.index}",
        source=document.source,
        file=document.file,
        start=document.start,
        end=document.end,
        sha256=text_hash(document.text),
        ids=encoder.encode_to_numpy(document.text),
    )


def _bytes_per_token(documents: list[Document], rows: list[TokenDocument]) -> float:
    n_bytes = sum(len(document.text.encode("utf-8")) for document in documents)
    return round(n_bytes / max(1, sum(len(row.ids) for row in rows)), 4)

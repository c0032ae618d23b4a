"""Raw documents → token ids in Parquet, one row a document, a file a split.

Each row says where its text lies in the raw file (bytes from … to) and the text's sha256, so any token can
be traced back.  Ids exclude end-of-text, which ``windows`` inserts.  What cleaning steps leave out is
counted. Encoding runs at some 8–20 MB/s on one core.
"""

from typing import Any

from gptcore.artifact import sha256_text
from gptcore.tokenizer import Tokenizer
from pipeline.contract.stage import In, Out
from pipeline.corpus.document import Document
from pipeline.corpus.documents import read_documents
from pipeline.corpus.splits import SplitConfig, split_documents
from pipeline.corpus.steps import CleanConfig, clean
from pipeline.store.raw import Raw
from pipeline.store.splits import SPLITS
from pipeline.store.tokens import TokenDocument, Tokens, tokens_content_hash, write_tokens
from pipeline.store.view import Outcome, Show, Table, View
from pipeline.store.vocabulary import Vocabulary


def tokenize(raw: In, tokenizer: In, out: Out, split: SplitConfig, corpus: CleanConfig) -> Outcome:
    texts, vocabulary = Raw.open(raw), Vocabulary.open(tokenizer)
    encoder = vocabulary.tokenizer
    found, skipped = read_documents(texts)
    documents, dropped = clean(found, corpus)
    parts = split_documents(documents, split)
    rows = {name: [_row(encoder, document) for document in parts[name]] for name in SPLITS}
    facts = {
        "tokenizer": encoder.fingerprint,
        "n_vocab": encoder.n_vocab,
        "eot": encoder.eot,
        "sources": texts.described("corpus"),
    }
    inputs = {"raw": texts.content_hash, "tokenizer": vocabulary.content_hash}
    with Tokens.create(out, facts, inputs, tokens_content_hash) as draft:
        for name in SPLITS:
            write_tokens(draft, name, rows[name])
    metrics = {
        "documents": {name: len(rows[name]) for name in SPLITS},
        "tokens": {name: sum(len(row.ids) for row in rows[name]) for name in SPLITS},
        "bytes": {name: sum(len(d.text.encode("utf-8")) for d in parts[name]) for name in SPLITS},
        "bytes_per_token": {name: _bytes_per_token(parts[name], rows[name]) for name in SPLITS},
        "dropped": dropped,
        "skipped_rows": skipped,
    }
    return Outcome(metrics, _view(metrics))


def _row(encoder: Tokenizer, document: Document) -> TokenDocument:
    return TokenDocument(
        doc_id=f"{document.source}/{document.index}",
        source=document.source,
        file=document.file,
        start=document.start,
        end=document.end,
        sha256=sha256_text(document.text),
        ids=encoder.encode_to_numpy(document.text),
    )


def _bytes_per_token(documents: list[Document], rows: list[TokenDocument]) -> float:
    n_bytes = sum(len(document.text.encode("utf-8")) for document in documents)
    return round(n_bytes / max(1, sum(len(row.ids) for row in rows)), 4)


def _view(metrics: dict[str, Any]) -> View:
    columns: list[tuple[str, Show]] = [
        ("split", "text"),
        ("documents", "number"),
        ("size", "bytes"),
        ("tokens", "number"),
        ("bytes/token", "number"),
    ]
    keys = ("documents", "bytes", "tokens", "bytes_per_token")
    title = "The corpus as the model sees it: choices are made on val, results are reported on test"
    table = Table(title, columns, [[split, *(metrics[key][split] for key in keys)] for split in SPLITS])
    left_out = [[name, n] for name, n in {**metrics["dropped"], **metrics["skipped_rows"]}.items()]
    reasons = Table(
        "Left out, by cleaning step or reason", [("reason", "text"), ("documents", "number")], left_out, True
    )
    return View("Data", blocks=[table, reasons])

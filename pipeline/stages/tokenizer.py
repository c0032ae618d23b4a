"""The vocabulary: GPT-2's own, or a byte-level BPE trained on the corpus.

Reads ``data/raw``, writes ``data/tokenizer`` as ``vocab.json`` and ``merges.txt``.  An own vocabulary sees
the training split only.  For a small corpus it pays: with 4,096 ids instead of 50,257 most parameters of a
small model move from a table of rare words into its layers (docs/defaults.md has the comparison).
"""

from gptcore.tokenizer import Tokenizer
from pipeline.contract.stage import In, Out
from pipeline.corpus.documents import read_documents
from pipeline.corpus.splits import SplitConfig, split_documents
from pipeline.corpus.steps import CleanConfig, clean
from pipeline.settings.tokenizer import TokenizerConfig
from pipeline.store.plain import as_plain
from pipeline.store.raw import Raw
from pipeline.store.view import Numbers, Outcome, View
from pipeline.store.vocabulary import Vocabulary


def tokenizer(raw: In, out: Out, cfg: TokenizerConfig, split: SplitConfig, corpus: CleanConfig) -> Outcome:
    texts = Raw.open(raw)
    documents, _ = clean(read_documents(texts)[0], corpus)
    parts = split_documents(documents, split)
    if cfg.kind == "gpt2":
        made = Tokenizer.load(texts.vocabulary_file())
    else:
        made = Tokenizer.train([document.text for document in parts["train"]], cfg.vocab_size)
    facts = {**as_plain(cfg), "fingerprint": made.fingerprint}
    with Vocabulary.create(out, facts, {"raw": texts.content_hash}) as draft:
        made.save(draft)
    held_out = "".join(document.text for document in parts["val"])
    bytes_per_token = round(len(held_out.encode("utf-8")) / len(made.encode(held_out)), 4)
    metrics = {"n_vocab": made.n_vocab, "fingerprint": made.fingerprint, "val_bytes_per_token": bytes_per_token}
    return Outcome(metrics, _view(made, bytes_per_token))


def _view(made: Tokenizer, bytes_per_token: float) -> View:
    values = [
        ("vocabulary", made.n_vocab, "ids, end-of-text included"),
        ("bytes/token", bytes_per_token, "of the validation text"),
    ]
    return View("Data", blocks=[Numbers(values)])

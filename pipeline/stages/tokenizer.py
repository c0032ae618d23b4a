"""The vocabulary: GPT-2's own, or a byte-level BPE trained on the corpus.

Reads ``data/raw``, writes ``data/tokenizer`` as ``vocab.json`` and ``merges.txt``.  An own vocabulary sees
the training split only.  For a small corpus it pays: with 4,096 ids instead of 50,257 most parameters of a
small model move from a table of rare words into its layers (docs/defaults.md has the comparison).

Text without spaces is learnt from in pieces (`gptcore/bpe.py`); how many words were cut for that is among the metrics
where there are any.
"""

from gptcore.bpe import LONGEST_WORD, long_words
from gptcore.errors import Interrupted
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.contract.stage import In, Out
from pipeline.corpus.documents import read_documents
from pipeline.corpus.splits import SplitConfig, split_documents
from pipeline.corpus.steps import CleanConfig, clean
from pipeline.settings.tokenizer import TokenizerConfig
from pipeline.store.plain import as_plain
from pipeline.store.raw import Raw
from pipeline.store.view import Numbers, Outcome, View
from pipeline.store.vocabulary import Vocabulary
from pipeline.tracking.progress import reading

NAME = __name__.rpartition(".")[2]


def tokenizer(raw: In, out: Out, cfg: TokenizerConfig, split: SplitConfig, corpus: CleanConfig) -> Outcome:
    texts = Raw.open(raw)
    documents, _ = clean(read_documents(texts)[0], corpus)
    parts = split_documents(documents, split)
    cut = 0
    if cfg.kind == "gpt2":
        made = Tokenizer.load(texts.vocabulary_file())
    else:
        learnt_from = [document.text for document in parts["train"]]
        made, cut = _train(learnt_from, cfg.vocab_size), sum(map(long_words, learnt_from))
    facts = {**as_plain(cfg), "fingerprint": made.fingerprint}
    with Vocabulary.create(out, facts, {"raw": texts.content_hash}) as draft:
        made.save(draft)
    held_out = "".join(document.text for document in parts["val"])
    bytes_per_token = round(len(held_out.encode("utf-8")) / len(made.encode(held_out)), 4)
    metrics = {"n_vocab": made.n_vocab, "fingerprint": made.fingerprint, "val_bytes_per_token": bytes_per_token}
    if cut:
        metrics["words_cut"] = cut
    return Outcome(metrics, _view(made, bytes_per_token, cut))


def _train(texts: list[str], vocab_size: int) -> Tokenizer:
    try:
        with reading(NAME, len(texts), then="making the vocabulary of them") as watch:
            return BytePairs.train(texts, vocab_size, watch)
    except KeyboardInterrupt:
        raise Interrupted(f"{NAME}: stopped; nothing was written, run it again") from None


def _view(made: Tokenizer, bytes_per_token: float, cut: int) -> View:
    values = [
        ("vocabulary", made.n_vocab, "ids, end-of-text included"),
        ("bytes/token", bytes_per_token, "of the validation text"),
    ]
    if cut:
        values.append(("words cut", cut, f"longer than {LONGEST_WORD} bytes; learnt from in pieces of that length"))
    return View("Data", blocks=[Numbers(values)])

"""The vocabulary: GPT-2's own, or a byte-level BPE trained on the corpus.

Reads ``data/raw``, writes ``data/tokenizer`` as ``vocab.json`` and ``merges.txt``.  An own vocabulary sees
the training split only.  For a small corpus it pays: with 4,096 ids instead of 50,257 most parameters of a
small model move from a table of rare words into its layers (docs/defaults.md has the comparison).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gptcore.artifact import commit, read_manifest
from gptcore.tokenizer import Tokenizer
from pipeline.artifacts import as_plain
from pipeline.corpus import read_documents, vocabulary_file
from pipeline.splits import SplitConfig, split_documents


@dataclass(frozen=True)
class TokenizerConfig:
    kind: Literal["gpt2", "bpe"]
    """GPT-2's published vocabulary, or one trained on the corpus."""
    vocab_size: int
    """Ids of a trained vocabulary, the 256 bytes and end-of-text included."""

    def __post_init__(self) -> None:
        if not 257 <= self.vocab_size <= 1_000_000:
            raise ValueError(f"vocab_size = {self.vocab_size}: expected 257 … 1,000,000")


def tokenizer(raw: Path, out: Path, cfg: TokenizerConfig, split: SplitConfig) -> dict[str, Any]:
    documents, _ = read_documents(raw)
    parts, _ = split_documents(documents, split)
    training_texts = [document.text for document in parts["train"]]
    if cfg.kind == "gpt2":
        made = Tokenizer.load(vocabulary_file(raw))
    else:
        made = Tokenizer.train(training_texts, cfg.vocab_size)
    inputs = {"raw": read_manifest(raw).content_hash}
    with commit(
        out, kind="tokenizer", config={**as_plain(cfg), "fingerprint": made.fingerprint}, inputs=inputs
    ) as draft:
        made.save(draft)
    held_out = "".join(document.text for document in parts["val"])
    return {
        "n_vocab": made.n_vocab,
        "fingerprint": made.fingerprint,
        "val_bytes_per_token": round(len(held_out.encode("utf-8")) / len(made.encode(held_out)), 4),
    }

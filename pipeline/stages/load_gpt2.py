"""Any model directory in GPT-2's layout (or Llama's) → the foundation that fine-tuning starts from.

``load_gpt2.source`` names the directory: by default our own pretrained checkpoint, which is in that
layout, so the same code runs every time; in the profile ``gpt2-124m`` the published weights.  Names,
shapes, number formats and finiteness are checked, and the loaded model is compared with what
`transformers` makes of the same directory: logits and greedy text.

Llama's layout is read too, and gptcore's own, in which our checkpoints with options beyond GPT-2 are.  That
one `transformers` can't read, so it is handed a temporary copy in Llama's layout where that is exact; where
no architecture is, the copy is read by gptcore itself.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcore import runtime
from gptcore.artifact import MANIFEST, commit, open_verified, read_manifest, sha256_file, write_json
from gptcore.errors import DataError
from gptcore.gpt2 import WEIGHTS_FILE, layout_of, read_config, save_gpt2
from gptcore.gpt2 import load_gpt2 as read_model
from gptcore.layouts import GPTCORE, Layout, portable
from gptcore.model import GPT
from gptcore.tokenizer import VOCABULARY_FILES, Tokenizer
from pipeline.artifacts import CHECKPOINT
from pipeline.parity import compare

PARITY_TEXTS, PARITY_TOKENS = 8, 20


@dataclass(frozen=True)
class LoadGpt2Config:
    source: str
    """Model directory in GPT-2's, Llama's or gptcore's layout; dvc.yaml passes it on as ``--source``."""

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("source: expected a directory, found nothing")


def load_gpt2(source: Path, out: Path, cfg: LoadGpt2Config) -> dict[str, Any]:
    runtime.configure()
    inputs = {"source": _verified_content(source)}
    sources = read_manifest(source).config.get("sources", {}) if (source / MANIFEST).is_file() else {}
    if missing := [name for name in VOCABULARY_FILES if not (source / name).is_file()]:
        raise DataError(f"{source}: {', '.join(missing)} missing; fine-tuning needs the model's own vocabulary")
    model, encoder = read_model(source), Tokenizer.load(source)
    if encoder.n_vocab != model.config.vocab_size:
        raise DataError(
            f"{source}: the vocabulary has {encoder.n_vocab} ids, the embedding {model.config.vocab_size} rows"
        )
    layout = layout_of(read_config(source))
    with _readable(source, layout, model, encoder) as directory:
        proof = compare(directory, model, encoder, PARITY_TEXTS, PARITY_TOKENS)
    if problems := proof.problems():
        raise DataError(f"{source}: what was loaded disagrees with `{proof.against}`: {'; '.join(problems)}")
    with commit(out, kind=CHECKPOINT, config={"stage": "load_gpt2", "sources": sources}, inputs=inputs) as draft:
        save_gpt2(model, draft, encoder)
        write_json(draft / "mapping.json", _mapping(layout, model))
    return {
        "parameters": model.n_params(),
        "n_layer": model.config.n_layer,
        "d_model": model.config.d_model,
        "n_vocab": model.config.vocab_size,
        "max_logit_difference": proof.bound,
        "greedy_equal": proof.choices_equal,
        "token_ids_equal": proof.token_ids_equal,
        "against": proof.against,
    }


@contextmanager
def _readable(source: Path, layout: Layout, model: GPT, encoder: Tokenizer) -> Iterator[Path]:
    """``source``, or a temporary copy of it in the layout that most other programs read."""
    if layout is not GPTCORE:
        yield source
        return
    with tempfile.TemporaryDirectory() as copy:
        save_gpt2(model, copy, encoder, portable(model.config))
        yield Path(copy)


def _mapping(layout: Layout, model: GPT) -> list[dict[str, Any]]:
    """The table that the source was read with; ``part`` says which of how many equal parts of our rows it is."""
    rows = layout.table or tuple(layout.rows(model))
    parts = [{"part": row.how} if "/" in row.how else {} for row in rows]
    names = [{"hugging_face": row.theirs, "ours": row.ours, "transposed": row.how == "T"} for row in rows]
    return [name | part for name, part in zip(names, parts, strict=True)]


def _verified_content(source: Path) -> str:
    """The content hash of an artifact; for a directory without a manifest, the hash of its weights."""
    if (source / MANIFEST).is_file():
        return open_verified(source).content_hash
    if not (source / WEIGHTS_FILE).is_file():
        raise DataError(f"{source / WEIGHTS_FILE}: missing; set load_gpt2.source to a model directory in GPT-2 layout")
    return sha256_file(source / WEIGHTS_FILE)

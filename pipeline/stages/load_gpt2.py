"""Any model directory in Hugging Face GPT-2 layout → the foundation that fine-tuning starts from.

``load_gpt2.source`` names the directory: by default our own pretrained checkpoint, which is in that
layout, so the same code runs every time; in the profile ``gpt2-124m`` the published weights.  Names,
shapes, number formats and finiteness are checked, and the loaded model is compared with what
`transformers` makes of the same directory: logits and greedy text.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcore import runtime
from gptcore.artifact import MANIFEST, commit, open_verified, read_manifest, sha256_file, write_json
from gptcore.errors import DataError
from gptcore.gpt2 import TABLE, WEIGHTS_FILE, save_gpt2
from gptcore.gpt2 import load_gpt2 as read_model
from gptcore.tokenizer import VOCABULARY_FILES, Tokenizer
from pipeline.artifacts import CHECKPOINT
from pipeline.parity import compare

PARITY_TEXTS, PARITY_TOKENS = 8, 20


@dataclass(frozen=True)
class LoadGpt2Config:
    source: str
    """Model directory in GPT-2 layout; dvc.yaml passes it on as ``--source``."""

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
    proof = compare(source, model, encoder, PARITY_TEXTS, PARITY_TOKENS)
    if problems := proof.problems():
        raise DataError(f"{source}: what was loaded disagrees with `transformers`: {'; '.join(problems)}")
    with commit(out, kind=CHECKPOINT, config={"stage": "load_gpt2", "sources": sources}, inputs=inputs) as draft:
        save_gpt2(model, draft, encoder)
        write_json(draft / "mapping.json", [{"hugging_face": h, "ours": o, "transposed": t} for h, o, t in TABLE])
    return {
        "parameters": model.n_params(),
        "n_layer": model.config.n_layer,
        "d_model": model.config.d_model,
        "n_vocab": model.config.vocab_size,
        "max_logit_difference": proof.bound,
        "greedy_equal": proof.choices_equal,
        "token_ids_equal": proof.token_ids_equal,
    }


def _verified_content(source: Path) -> str:
    """The content hash of an artifact; for a directory without a manifest, the hash of its weights."""
    if (source / MANIFEST).is_file():
        return open_verified(source).content_hash
    if not (source / WEIGHTS_FILE).is_file():
        raise DataError(f"{source / WEIGHTS_FILE}: missing; set load_gpt2.source to a model directory in GPT-2 layout")
    return sha256_file(source / WEIGHTS_FILE)

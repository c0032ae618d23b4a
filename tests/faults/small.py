"""One small artifact of every kind, made by the stages and routines that make the large ones: two seconds in all.

The text is real (the topics that Python's ``help()`` knows), so the vocabulary, the documents and the windows are too.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pydoc_data.topics import topics

import torch

from gptcore import checkpoint
from gptcore.config import GPTConfig
from gptcore.formats.directory import save_model
from gptcore.formats.families import gpt2, gptcore, llama
from gptcore.formats.table import Model, TableFormat
from gptcore.model import GPT, Classifier
from gptcore.optim import OptimConfig, Optimizers, build_optimizers
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers.byte_pairs import BytePairs
from pipeline.corpus.splits import SplitConfig
from pipeline.corpus.steps import CleanConfig
from pipeline.stages.download import DownloadConfig, download
from pipeline.stages.tokenize import tokenize
from pipeline.stages.tokenizer import TokenizerConfig, tokenizer
from pipeline.stages.windows import WindowsConfig, windows
from pipeline.store.checkpoint import LANGUAGE_MODEL, Checkpoint
from pipeline.store.outputs import Export
from pipeline.store.plain import as_plain

N_TEXTS, N_IDS, CONTEXT = 30, 300, 16
ARTIFACTS = ("raw", "tokenizer", "tokens", "windows", "checkpoint", "export", "states/step-00000002")
LABELS = ["acq", "earn", "ship"]
SPLIT = SplitConfig(val_fraction=0.1, test_fraction=0.1, min_documents=20)
CLEAN = CleanConfig(["line-ends", "exact-duplicates"])
SHAPE = {"vocab_size": N_IDS, "context_length": CONTEXT, "d_model": 16, "n_layer": 2, "n_head": 2}
FAMILIES: dict[str, tuple[TableFormat, GPTConfig]] = {
    "gpt2": (gpt2.FORMAT, GPTConfig(**SHAPE)),
    "llama": (
        llama.FORMAT,
        GPTConfig(**SHAPE, positions="rotary", norm="rmsnorm", mlp="swiglu", bias=False, tie_weights=False),
    ),
    "gptcore": (gptcore.FORMAT, GPTConfig(**SHAPE, positions="rotary", mlp="gelu", norm="rmsnorm")),
}


def texts(root: Path) -> None:
    """``own``: text files; ``raw``, ``tokenizer``, ``tokens``, ``windows``: what the first stages make of them."""
    (root / "own").mkdir()
    for name in sorted(topics)[:N_TEXTS]:
        (root / "own" / f"{name}.txt").write_text(topics[name][:3000], encoding="utf-8")
    with _project(root):
        download(root / "own", root / "raw", DownloadConfig(sources={}, use_own=True))
        tokenizer(root / "raw", root / "tokenizer", TokenizerConfig(kind="bpe", vocab_size=N_IDS), SPLIT, CLEAN)
        tokenize(root / "raw", root / "tokenizer", root / "tokens", SPLIT, CLEAN)
        windows(root / "tokens", root / "windows", WindowsConfig(context_length=CONTEXT, stride=8))


def vocabulary() -> Tokenizer:
    """With exactly as many ids as the models have rows."""
    made = BytePairs.train([topics[name] for name in sorted(topics)[:N_TEXTS]], N_IDS)
    assert made.n_vocab == N_IDS
    return made


def model(family: str, classifier: bool = False, seed: int = 0) -> Model:
    """With random weights, larger than at the start of a training, so that logits differ clearly."""
    torch.manual_seed(seed)
    made: Model = GPT(FAMILIES[family][1])
    if classifier:
        made = Classifier(made, LABELS, N_IDS - 1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made.eval()


def model_directory(directory: Path, family: str, classifier: bool, vocabulary: Tokenizer) -> None:
    """In the family's layout, without a manifest."""
    save_model(model(family, classifier), directory, vocabulary, FAMILIES[family][0])


def model_artifacts(root: Path) -> None:
    """``checkpoint`` and ``export``: a model behind a manifest, with a vocabulary; ``states``: two of a training."""
    words = vocabulary()
    facts = {"about": as_plain(LANGUAGE_MODEL), "sources": {}, "metrics": {}}
    with Checkpoint.create(root / "checkpoint", facts) as draft:
        model_directory(draft, "gpt2", False, words)
    with Export.create(root / "export", facts) as draft:
        model_directory(draft, "llama", False, words)
        (draft / "README.md").write_text("# A model\n", encoding="utf-8")
    for step in (1, 2):
        trained, optimizers = training(step)
        checkpoint.save(root / "states", trained, optimizers, step)


def training(seed: int = 0) -> tuple[GPT, Optimizers]:
    """A model and the state of its optimizers after a step."""
    trained = model("gpt2", seed=seed).body
    optimizers = build_optimizers(trained, OptimConfig())
    for parameter in trained.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizers.step()
    return trained, optimizers


@contextmanager
def _project(root: Path) -> Iterator[None]:
    """A project at ``root`` for as long as stages run in this process."""
    before = {name: os.environ.get(name) for name in ("DVC_ROOT", "GPTCORE_CACHE", "GPTCORE_TRACKING")}
    os.environ |= {"DVC_ROOT": str(root), "GPTCORE_CACHE": str(root / "cache"), "GPTCORE_TRACKING": "off"}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

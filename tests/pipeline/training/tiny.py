"""A tiny training of the project's own, on real text that every Python has, for the tests of this folder."""

import os
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from ruamel.yaml import YAML

from gptcore.config import Architecture
from pipeline.contract import params
from pipeline.corpus.splits import SplitConfig
from pipeline.corpus.steps import CleanConfig
from pipeline.stages.download import DownloadConfig, download
from pipeline.stages.pretrain import PretrainConfig, pretrain
from pipeline.stages.tokenize import tokenize
from pipeline.stages.tokenizer import TokenizerConfig, tokenizer
from pipeline.stages.windows import WindowsConfig, windows
from pipeline.tracking.tracker import NullTracker, Tracker

ROOT = Path(__file__).resolve().parents[3]
MODEL = {"d_model": 32, "n_layer": 1, "n_head": 2, "dropout": 0.1}
TRAINING = {
    "max_steps": 12,
    "batch_windows": 4,
    "eval_every": 5,
    "eval_windows": 4,
    "save_every": 4,
    "seed": 3,
    "learning_rate": 0.01,
    "dtype": "float32",
}


def prepare(root: Path) -> None:
    """``root/windows`` and ``root/tokenizer`` from forty texts."""
    split = SplitConfig(val_fraction=0.1, test_fraction=0.1, min_documents=20)
    corpus = CleanConfig(["line-ends", "exact-duplicates"])
    (root / "own").mkdir()
    for name in sorted(topics)[:40]:
        (root / "own" / f"{name}.txt").write_text(topics[name], encoding="utf-8")
    download(root / "own", root / "raw", DownloadConfig(sources={}, use_own=True))
    tokenizer(root / "raw", root / "tokenizer", TokenizerConfig(kind="bpe", vocab_size=300), split, corpus)
    tokenize(root / "raw", root / "tokenizer", root / "tokens", split, corpus)
    windows(root / "tokens", root / "windows", WindowsConfig(context_length=16, stride=8))


def run(root: Path, out: str = "model", tracker: Tracker | None = None, **changes: Any) -> None:
    """The stage as a function."""
    config = PretrainConfig(**{**TRAINING, **changes})
    files = (root / "windows", root / "tokenizer", root / out, root / f"{out}.csv")
    pretrain(*files, Architecture(**MODEL), config, tracker or NullTracker())


def set_params(root: Path, **changes: Any) -> None:
    """``root/params.yaml``: the project's, with this training in it and ``changes``."""
    everything = params.read(ROOT / "params.yaml")
    everything["model"] |= MODEL
    everything["pretrain"] |= {**TRAINING, **changes}
    YAML().dump(everything, root / "params.yaml")


def command(root: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """``python -m pipeline ARGUMENTS`` in ``root``."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GPTCORE_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


PRETRAIN = ("pretrain", "--windows", "windows", "--tokenizer", "tokenizer", "--out", "model", "--curve", "model.csv")
"""The stage as a command."""

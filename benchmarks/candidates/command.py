"""Whole processes: the first token from the command line, and the least any program with PyTorch takes.

The model is the one that the default pipeline exports, if it lies in ``data/export/pretrain``; otherwise one
of the same shape with random weights and a vocabulary learnt from Python's reference manual.
"""

import atexit
import subprocess
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

from benchmarks.candidates.ours import config_of
from benchmarks.process import ROOT
from benchmarks.worker import Unit
from benchmarks.workloads import Workload
from gptcore.formats.directory import save_model
from gptcore.model import GPT
from gptcore.tokenizer.readers.byte_pairs import BytePairs

EXPORTED = ROOT / "data" / "export" / "pretrain"
PROMPT = "Once upon a time"


def build(work: Workload, setting: str) -> Unit:
    """Settings: ``generate``, ``import-torch``."""
    if setting == "import-torch":
        return _process("-c", "import torch")
    model = EXPORTED if (EXPORTED / "model.safetensors").is_file() else _made_up(work)
    return _process("-m", "gptcore", "generate", str(model), PROMPT, "--max-new-tokens", "1")


def _process(*arguments: str) -> Unit:
    def unit() -> float:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        return 1.0

    return unit


def _made_up(work: Workload) -> Path:
    """A model directory that goes when this process does."""
    holder = tempfile.TemporaryDirectory(prefix="gptcore-bench-")
    atexit.register(holder.cleanup)
    tokenizer = BytePairs.train(["\n".join(topics[name] for name in sorted(topics))], work.vocab_size)
    save_model(GPT(config_of(work)), holder.name, tokenizer)
    return Path(holder.name)

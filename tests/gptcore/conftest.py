"""What the library's tests share: one thread, real text, small models with weights large enough to matter.

Fresh models have weights near 0.02, whose logits differ by less than any tolerance; the models here get weights
of about 0.3, biases and norms included, so that a wrong term shows in the first digit.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch

from gptcore.config import GPTConfig
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from gptcore.tokenizer.readers.byte_pairs import BytePairs

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
MakeGPT = Callable[..., GPT]
MakeOracle = Callable[..., Any]


@pytest.fixture(autouse=True)
def _one_thread_and_seed() -> Iterator[None]:
    """Parallel test processes must not fight for the cores, golden numbers hold for one thread, and luck is no test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def manual() -> str:
    """CPython's reference manual: 700 kB of real text that every Python carries."""
    return "\n".join(topics[name] for name in sorted(topics))


@pytest.fixture(scope="session")
def tokenizer(manual: str) -> Tokenizer:
    """An own vocabulary of 600 ids, learnt from the manual."""
    return BytePairs.train([manual], 600)


@pytest.fixture(scope="session")
def make_gpt() -> MakeGPT:
    """``make_gpt(seed=0, **config)``: a tiny model with large random weights, in evaluation mode."""

    def make(seed: int = 0, **changes: Any) -> GPT:
        fields = {"vocab_size": 61, "context_length": 16, "d_model": 24, "n_layer": 2, "n_head": 3, **changes}
        generator = torch.Generator().manual_seed(seed)
        model = GPT(GPTConfig(**fields))
        randomise(model, generator)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_oracle() -> MakeOracle:
    """``make_oracle("GPT2LMHeadModel", seed=0, **config)``: the same kind of model from `transformers`."""
    import transformers

    def make(kind: str = "GPT2LMHeadModel", seed: int = 0, **changes: Any) -> Any:
        fields: dict[str, Any] = {"vocab_size": 61, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 3}
        fields |= {"bos_token_id": 60, "eos_token_id": 60, "pad_token_id": 60}
        fields |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        model = getattr(transformers, kind)(transformers.GPT2Config(**{**fields, **changes}))
        randomise(model, torch.Generator().manual_seed(seed))
        return model.eval()

    return make


def randomise(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Weights about 0 (norms: about 1) with a deviation of 0.3 for 24 channels, less for more.

    Positions weigh three times as much, or greedy texts would soon repeat one token.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = (
                0.3 * min(1.0, (24 / parameter.shape[-1]) ** 0.5) * (3 if "wpe" in name or "position" in name else 1)
            )
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(noise + (1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0))


@pytest.fixture(scope="session")
def run_python() -> Run:
    """``run_python(*arguments, cwd=…, input=…, **environment)``: a fresh Python that finds this project."""

    def run(
        *arguments: str, cwd: Path, input: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        everything = {**os.environ, "PYTHONPATH": str(ROOT), "GPTCORE_THREADS": "1", **environment}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=everything,
            input=input,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run

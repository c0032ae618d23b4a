"""How good the models are, on text they have not seen and on tasks they were not tuned for.

Two models are measured side by side: the one trained here and the one loaded as the foundation of fine-tuning.
By default they are the same; then everything is computed once and reported for both.

    held-out text    bits/byte of the test documents, beside n-gram models and compressors on the very same bytes
    samples          what a model writes after some prompts
    prompting        accuracy with 0, 1, … solved examples in the prompt (see `prompting.py`)

The text is decoded from ``data/tokens``, checked against each document's sha256 and encoded anew with each model's own
vocabulary: bits/byte compares models of different vocabularies only if they read the same bytes.

Samples are computed in float32, one at a time: a prompt added or removed leaves the others as they are.  With the default
parameters the stage takes about 15 s on two cores, of which the compressors take 3.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gptcore.artifact import Manifest, commit, open_verified, read_manifest, sha256_file, sha256_text, write_json
from gptcore.errors import DataError, ParameterError
from gptcore.evaluate import bits_per_byte, document_nats, perplexity
from gptcore.generate import generate
from gptcore.gpt2 import WEIGHTS_FILE, load_gpt2
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from pipeline import corpus, prompting
from pipeline.artifacts import CHECKPOINT, TokenDocument, read_tokens
from pipeline.baselines import gzip_bits_per_byte, kneser_ney_nats, xz_bits_per_byte
from pipeline.instruction_data import read_instructions
from pipeline.prompting import Problem
from pipeline.tracking import Tracker

KIND = "evaluation"
NGRAM_ORDERS = (1, 2, 3, 5)


@dataclass(frozen=True)
class EvaluateConfig:
    stride: int
    """Tokens from one window of the held-out text to the next; 0: half the model's context."""
    batch_windows: int
    """Windows, or prompts, in one forward pass."""
    prompts: list[str]
    """What the samples go on from; an empty one starts a new document."""
    temperatures: list[float]
    """Of the samples; 0 takes the likeliest token every time."""
    max_new_tokens: int
    """Tokens of a sample, at most."""
    shots: list[int]
    """Numbers of solved examples in a prompt."""
    prompt_examples: int
    """Test documents to classify by prompting, at most."""
    prompt_examples_per_kind: int
    """Test instructions of each kind, at most."""
    seed: int
    """Of the samples and of the draw of examples."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value}: expected a whole number of at least 1"
            for name in ("batch_windows", "max_new_tokens", "prompt_examples", "prompt_examples_per_kind")
            if (value := getattr(self, name)) < 1
        ]
        if self.stride < 0:
            problems.append(f"stride = {self.stride}: expected a number of tokens, or 0 for half the context")
        for name, least in (("prompts", ""), ("temperatures", 0.0), ("shots", 0)):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                problems.append(f"{name} = {values}: expected at least one, and different ones")
            if not all(value >= least and value != math.inf for value in values):
                problems.append(f"{name} = {values}: expected finite numbers of at least 0")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True)
class Contender:
    """A model under all the names it has in the results."""

    names: tuple[str, ...]
    model: GPT
    tokenizer: Tokenizer


Results = dict[str, Any]


def evaluate(
    pretrained: Path,
    loaded: Path,
    tokens: Path,
    tokenizer: Path,
    raw: Path,
    instructions: Path,
    out: Path,
    cfg: EvaluateConfig,
    tracker: Tracker,
) -> dict[str, Any]:
    directories = {"pretrained": pretrained, "loaded": loaded}
    inputs = _inputs({**directories, "tokens": tokens, "tokenizer": tokenizer, "raw": raw}, instructions)
    tasks = _tasks(raw, instructions, cfg)
    train, test = (_read_texts(tokens, tokenizer, split) for split in ("train", "test"))
    contenders = _contenders(directories, cfg)
    baselines = ...

"""llms-from-scratch: the book's ``GPTModel`` (chapter 4), and the faster variant its package offers.

Both have a head of their own: 163M parameters at the 124M shape.  Text comes from the book's own loop, which
runs the whole text through the model for every token: the package's key-value cache (`kv_cache`) misses the
attributes of GPT-2's model that its ``generate_text_simple`` asks for.
"""

from typing import Any

import torch
from llms_from_scratch.ch04 import GPTModel, GPTModelFast, generate_text_simple

from benchmarks.candidates.training import training_unit
from benchmarks.random_data import prompt
from benchmarks.worker import Unit
from benchmarks.workloads import Workload

NEW_TOKENS = 8
"""Of a unit of generation: each token costs as much as a prompt."""


def build(work: Workload, setting: str) -> Unit:
    """Settings: ``fp32``, ``bf16``, either with ``+fast`` (``GPTModelFast``) and ``+compile``."""
    form, *extras = setting.split("+")
    model = (GPTModelFast if "fast" in extras else GPTModel)(_config(work))
    if work.task == "train":
        return training_unit(work, model, model, bf16=form == "bf16", compiled="compile" in extras)
    return _text(work, model.eval().to({"fp32": torch.float32, "bf16": torch.bfloat16}[form]))


def _config(work: Workload) -> dict[str, Any]:
    return {
        "vocab_size": work.vocab_size,
        "context_length": work.context_length,
        "emb_dim": work.d_model,
        "n_heads": work.n_head,
        "n_layers": work.n_layer,
        "drop_rate": 0.0,
        "qkv_bias": True,
    }


def _text(work: Workload, model: torch.nn.Module) -> Unit:
    ids, new = prompt(work), min(NEW_TOKENS, work.new_tokens)

    def unit() -> float:
        generate_text_simple(model, ids, new, work.context_length)
        return work.batch * new if work.task == "decode" else ids.numel()

    return unit

"""transformers: ``GPT2LMHeadModel`` with its default attention, and what its documentation offers."""

from typing import Any

import torch
import transformers

from benchmarks.candidates.training import training_unit
from benchmarks.random_data import prompt
from benchmarks.worker import Unit
from benchmarks.workloads import Workload


def build(work: Workload, setting: str) -> Unit:
    """Settings: ``fp32`` or ``bf16``, with ``+eager`` (attention), ``+compile``, and for text ``+static`` (cache)."""
    form, *extras = setting.split("+")
    attention = "eager" if "eager" in extras else "sdpa"
    model = transformers.GPT2LMHeadModel._from_config(_config(work), attn_implementation=attention)
    if work.task == "train":
        cached = {} if form == "fp32" else {"use_cache": False}
        return training_unit(
            work, model, lambda x: model(x, **cached).logits, bf16=form == "bf16", compiled="compile" in extras
        )
    return _text(work, model.eval(), form, extras)


def _config(work: Workload) -> Any:
    return transformers.GPT2Config(
        vocab_size=work.vocab_size,
        n_positions=work.context_length,
        n_embd=work.d_model,
        n_layer=work.n_layer,
        n_head=work.n_head,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=None,  # every text has its full length
        pad_token_id=0,
    )


def _text(work: Workload, model: Any, form: str, extras: list[str]) -> Unit:
    model = model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[form])
    ids = prompt(work)
    mask = torch.ones_like(ids)
    options: dict[str, Any] = {"max_new_tokens": work.new_tokens, "do_sample": False, "use_cache": True}
    if "static" in extras:
        options["cache_implementation"] = "static"
    if "compile" in extras:
        model.forward = torch.compile(model.forward)

    def unit() -> float:
        text = model.generate(ids, attention_mask=mask, **options)
        return text[:, work.tokens :].numel() if work.task == "decode" else ids.numel()

    if "compile" in extras:
        unit()  # compiles; that is no text's time
    return unit

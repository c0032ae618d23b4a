"""LitGPT: its ``GPT`` in GPT-2's size (rotary positions, a head of its own: 163M parameters at the 124M shape)."""

import torch
from litgpt.config import Config
from litgpt.generate import base
from litgpt.model import GPT

from benchmarks.candidates.training import training_unit
from benchmarks.random_data import prompt
from benchmarks.worker import Unit
from benchmarks.workloads import Workload


def build(work: Workload, setting: str) -> Unit:
    """Settings: ``fp32``, ``bf16``, either with ``+compile`` as its pretraining does."""
    form, *extras = setting.split("+")
    model = GPT(_config(work))
    if work.task == "train":
        return training_unit(work, model, model, bf16=form == "bf16", compiled="compile" in extras)
    return _text(work, model.eval(), form, extras)


def _config(work: Workload) -> Config:
    return Config(
        name="gpt2-shape",
        block_size=work.context_length,
        vocab_size=work.vocab_size,
        padded_vocab_size=work.vocab_size,
        n_layer=work.n_layer,
        n_head=work.n_head,
        n_embd=work.d_model,
        parallel_residual=False,
    )


def _text(work: Workload, model: GPT, form: str, extras: list[str]) -> Unit:
    model = model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[form])
    ids, length = prompt(work), work.tokens + work.new_tokens
    model.max_seq_length = length
    model.set_kv_cache(batch_size=work.batch, dtype=next(model.parameters()).dtype)

    def one_row() -> float:
        text = base.generate(model, ids[0], length, temperature=0.0)
        return text.numel() - work.tokens if work.task == "decode" else ids.numel()

    def many_rows() -> float:
        steps = base.batched_generate_fn(
            model, ids, length, sample_args={"temperature": 0.0}, include_prompt=False, include_eos=True
        )
        new = sum(token is not None for row in steps for token in row)
        return new if work.task == "decode" else ids.numel()

    if "compile" in extras:
        base.next_token = torch.compile(base.next_token)
        one_row()  # compiles; that is no text's time
    return one_row if work.batch == 1 else many_rows

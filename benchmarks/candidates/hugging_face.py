"""transformers: ``GPT2LMHeadModel`` or ``LlamaForCausalLM`` with its default attention, and what its documentation
offers; with ``+lora`` tuned by `peft`.
"""

from typing import Any

import torch
import transformers

from benchmarks.candidates.training import training_unit
from benchmarks.random_data import prompt
from benchmarks.worker import Unit
from benchmarks.workloads import LORA, Workload


def build(work: Workload, setting: str) -> Unit:
    """Settings: ``fp32`` or ``bf16``, with ``+eager`` (attention), ``+compile``, and for text ``+static`` (cache).

    For training also ``+lora``, and ``+half``: frozen weights in bfloat16.
    """
    form, *extras = setting.split("+")
    attention = "eager" if "eager" in extras else "sdpa"
    kind: Any = transformers.LlamaForCausalLM if work.variant else transformers.GPT2LMHeadModel
    config = _llama_config(work) if work.variant else _config(work)
    model = kind._from_config(config, attn_implementation=attention)
    if "half" in extras:
        model = model.to(torch.bfloat16)
    if "lora" in extras:
        model = _with_lora(model)
    if work.task == "train":
        cached = {} if form == "fp32" else {"use_cache": False}
        return training_unit(
            work, model, lambda x: model(x, **cached).logits, bf16=form == "bf16", compiled="compile" in extras
        )
    return _text(work, model.eval(), form, extras)


def _with_lora(model: Any) -> Any:
    import peft  # here, so that it takes no memory from what is measured without it

    options: dict[str, Any] = {"r": LORA["rank"], "lora_alpha": LORA["alpha"], "target_modules": "all-linear"}
    return peft.get_peft_model(model, peft.LoraConfig(**options, task_type="CAUSAL_LM"))


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


def _llama_config(work: Workload) -> Any:
    return transformers.LlamaConfig(
        vocab_size=work.vocab_size,
        hidden_size=work.d_model,
        intermediate_size=work.variant["mlp_hidden"],
        num_hidden_layers=work.n_layer,
        num_attention_heads=work.n_head,
        num_key_value_heads=work.variant["n_kv_head"],
        max_position_embeddings=work.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": work.variant["rope_theta"]},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=None,
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

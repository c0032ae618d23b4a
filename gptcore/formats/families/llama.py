"""Llama's model directories, as `transformers` reads and writes them (Touvron et al., 2023).

Heads of keys and values may be shared (Llama 2 70B, Llama 3, SmolLM2), the MLP of any width, rotary positions
stretched as Llama 3.1 does.
"""

from collections.abc import Mapping
from typing import Any

from gptcore.config import GPTConfig
from gptcore.formats import llama_like


def _read(stored: Mapping[str, Any]) -> GPTConfig:
    return llama_like.read_config(stored, switches=("attention_bias", "mlp_bias"), options=_options)


def _options(flags: Mapping[str, bool]) -> dict[str, Any]:
    attention, mlp = flags["attention_bias"], flags["mlp_bias"]
    return {"bias": mlp, "attention_bias": "same" if attention == mlp else "all" if attention else "none"}


def _write(config: GPTConfig) -> dict[str, Any]:
    return llama_like.write_config(config) | {"attention_bias": config.qkv_bias, "mlp_bias": config.bias}


def _expresses(config: GPTConfig) -> bool:
    return llama_like.expresses(config) and not config.qk_norm and config.qkv_bias == config.attention_proj_bias


FORMAT = llama_like.family(
    "llama", "Llama", "Llama (pre-norm, RMSNorm, SwiGLU, rotary positions)", _read, _write, _expresses
)

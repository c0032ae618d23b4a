"""Qwen3's model directories: Llama's with norms on queries and keys, and heads of any width (Yang et al., 2025)."""

from collections.abc import Mapping
from typing import Any

from gptcore.config import GPTConfig
from gptcore.formats import llama_like


def _read(stored: Mapping[str, Any]) -> GPTConfig:
    return llama_like.read_config(
        stored, switches=("attention_bias",), required=("num_key_value_heads", "head_dim"), options=_options
    )


def _options(flags: Mapping[str, bool]) -> dict[str, Any]:
    return {"bias": False, "attention_bias": "all" if flags["attention_bias"] else "same", "qk_norm": True}


def _write(config: GPTConfig) -> dict[str, Any]:
    return llama_like.write_config(config) | {"attention_bias": config.qkv_bias, "use_sliding_window": False}


def _expresses(config: GPTConfig) -> bool:
    of_attention = config.qkv_bias == config.attention_proj_bias
    return llama_like.expresses(config) and config.qk_norm and of_attention and not config.bias


FORMAT = llama_like.family("qwen3", "Qwen3", "Qwen3 (Llama with norms on queries and keys)", _read, _write, _expresses)

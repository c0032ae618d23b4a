"""Qwen2's model directories, Qwen2.5's too: Llama's with biases for queries, keys and values (Yang et al., 2024)."""

from collections.abc import Mapping
from typing import Any

from gptcore.config import GPTConfig
from gptcore.formats import llama_like


def _read(stored: Mapping[str, Any]) -> GPTConfig:
    return llama_like.read_config(
        stored, required=("num_key_value_heads",), options=lambda flags: {"bias": False, "attention_bias": "qkv"}
    )


def _write(config: GPTConfig) -> dict[str, Any]:
    return llama_like.write_config(config) | {"use_sliding_window": False}


def _expresses(config: GPTConfig) -> bool:
    biases = (config.bias, config.qkv_bias, config.attention_proj_bias)
    whole = config.attention_width == config.d_model
    return llama_like.expresses(config) and not config.qk_norm and whole and biases == (False, True, False)


FORMAT = llama_like.family(
    "qwen2", "Qwen2", "Qwen2 (Llama with biases for queries, keys and values)", _read, _write, _expresses
)

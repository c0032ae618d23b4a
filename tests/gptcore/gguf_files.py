"""Writes a GGUF file of a model of `transformers`, as llama.cpp's converter does, with the package `gguf`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gpt_neox": "gptneox"}


def save_gguf(oracle: Any, path: Path, kind: str = "F32", change: Callable[[Any], None] = lambda writer: None) -> None:
    """Matrices as ``kind``, the rest in float32; ``change`` may add facts or tensors."""
    config = oracle.config
    name = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, name)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if name == "gptneox":
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_parallel_residual(config.use_parallel_residual)
        width = config.hidden_size // config.num_attention_heads
        writer.add_rope_dimension_count(int(width * config.rope_parameters["partial_rotary_factor"]))
    else:
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_key_length(head)
        writer.add_value_length(head)
        writer.add_rope_dimension_count(head)
    change(writer)
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[name], config.num_hidden_layers)
    for theirs, tensor in oracle.state_dict().items():
        if "rotary_emb" in theirs or (theirs == "lm_head.weight" and config.tie_word_embeddings):
            continue
        own = names.get_name(
            theirs.replace("lm_head", "embed_out") if name == "gptneox" else theirs, (".weight", ".bias")
        )
        assert own, theirs
        _add(writer, own, _converted(own, tensor, config, name), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _converted(own: str, tensor: Tensor, config: Any, name: str) -> Tensor:
    """Rows in llama.cpp's order."""
    if name == "llama" and (".attn_q." in own or ".attn_k." in own):
        heads = config.num_attention_heads if ".attn_q." in own else config.num_key_value_heads
        return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)
    if ".attn_qkv." in own:
        return tensor.unflatten(0, (config.num_attention_heads, 3, -1)).transpose(0, 1).reshape(tensor.shape)
    return tensor


def _add(writer: Any, own: str, tensor: Tensor, kind: str) -> None:
    values = tensor.detach().to(torch.float32).numpy()
    if tensor.ndim < 2 or kind == "F32":
        writer.add_tensor(own, values)
        return
    quantized = gguf.GGMLQuantizationType[kind]
    packed = gguf.quantize(values, quantized)
    writer.add_tensor(own, packed, raw_dtype=quantized if packed.dtype == np.uint8 else None)

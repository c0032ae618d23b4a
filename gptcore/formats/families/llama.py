"""Llama's model directories, as `transformers` reads and writes them (Touvron et al., 2023).

What a Llama may have and this model has not (grouped key-value heads, another width of the MLP, scaled rotary
positions) is refused by name.
"""

from collections.abc import Mapping
from typing import Any

from gptcore.config import GPTConfig
from gptcore.formats.table import WHOLE, Part, Row, TableFormat, missing, other_values, refuse, wrong_sizes
from gptcore.untrusted import shown

# Hugging Face name                                  our name                         how
_TABLE = [
    ("model.embed_tokens.weight",                    "token_embedding.weight",        WHOLE),
    ("model.layers.{}.input_layernorm.weight",       "blocks.{}.ln_1.weight",         WHOLE),
    ("model.layers.{}.self_attn.q_proj.weight",      "blocks.{}.attn.qkv.weight",     Part(1, of=3)),
    ("model.layers.{}.self_attn.k_proj.weight",      "blocks.{}.attn.qkv.weight",     Part(2, of=3)),
    ("model.layers.{}.self_attn.v_proj.weight",      "blocks.{}.attn.qkv.weight",     Part(3, of=3)),
    ("model.layers.{}.self_attn.q_proj.bias",        "blocks.{}.attn.qkv.bias",       Part(1, of=3)),
    ("model.layers.{}.self_attn.k_proj.bias",        "blocks.{}.attn.qkv.bias",       Part(2, of=3)),
    ("model.layers.{}.self_attn.v_proj.bias",        "blocks.{}.attn.qkv.bias",       Part(3, of=3)),
    ("model.layers.{}.self_attn.o_proj.weight",      "blocks.{}.attn.proj.weight",    WHOLE),
    ("model.layers.{}.self_attn.o_proj.bias",        "blocks.{}.attn.proj.bias",      WHOLE),
    ("model.layers.{}.post_attention_layernorm.weight", "blocks.{}.ln_2.weight",      WHOLE),
    ("model.layers.{}.mlp.gate_proj.weight",         "blocks.{}.mlp.fc.weight",       Part(1, of=2)),
    ("model.layers.{}.mlp.up_proj.weight",           "blocks.{}.mlp.fc.weight",       Part(2, of=2)),
    ("model.layers.{}.mlp.gate_proj.bias",           "blocks.{}.mlp.fc.bias",         Part(1, of=2)),
    ("model.layers.{}.mlp.up_proj.bias",             "blocks.{}.mlp.fc.bias",         Part(2, of=2)),
    ("model.layers.{}.mlp.down_proj.weight",         "blocks.{}.mlp.proj.weight",     WHOLE),
    ("model.layers.{}.mlp.down_proj.bias",           "blocks.{}.mlp.proj.bias",       WHOLE),
    ("model.norm.weight",                            "ln_f.weight",                   WHOLE),
    ("lm_head.weight",                               "head.weight",                   WHOLE),
    ("score.weight",                                 "score.weight",                  WHOLE),
]  # fmt: skip

_FIELDS = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "context_length",
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "rms_norm_eps": "layer_norm_eps",
}


def _read(stored: Mapping[str, Any]) -> GPTConfig:
    given = {key: value for key, value in stored.items() if value is not None}  # null stands for the default
    ropes = [given.get(key, {}) for key in ("rope_scaling", "rope_parameters")]  # of v4, of v5
    refuse([f"rope_parameters = {shown(rope)}: expected an object" for rope in ropes if not isinstance(rope, dict)])
    rope = ropes[0] | ropes[1]
    problems = missing({**stored, "rms_norm_eps": None}, _FIELDS) + wrong_sizes(stored, _FIELDS)
    if "intermediate_size" not in stored:
        problems.append("intermediate_size: missing")
    if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
        problems.append(f"rope_type = {shown(kind)}: this model computes 'default' only")
    refuse(problems)
    config = GPTConfig(
        **{"layer_norm_eps": 1e-6} | {ours: stored[key] for key, ours in _FIELDS.items() if key in stored},
        dropout=given.get("attention_dropout", 0.0),
        bias=given.get("attention_bias", False),
        tie_weights=given.get("tie_word_embeddings", False),
        rope_theta=rope.get("rope_theta", given.get("rope_theta", 10000.0)),
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
    )
    refuse(other_values({"mlp_bias": False, **given}, _shape(config)))
    return config


def _shape(config: GPTConfig) -> dict[str, Any]:
    """What follows from our configuration and Llama could have otherwise: grouped heads, another width, …"""
    return {
        "hidden_act": "silu",
        "intermediate_size": config.mlp_width,
        "num_key_value_heads": config.n_head,
        "head_dim": config.head_dim,
        "mlp_bias": config.bias,
    }


def _write(config: GPTConfig) -> dict[str, Any]:
    return {
        **{key: getattr(config, ours) for key, ours in _FIELDS.items()},
        **_shape(config),
        "attention_bias": config.bias,
        "attention_dropout": config.dropout,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,  # where transformers before 5 and other runtimes look for it
        "tie_word_embeddings": config.tie_weights,
    }


def _expresses(config: GPTConfig) -> bool:
    return (config.positions, config.norm, config.mlp) == ("rotary", "rmsnorm", "swiglu")


FORMAT = TableFormat(
    "llama",
    "Llama-type",
    "Llama (pre-norm, RMSNorm, SwiGLU, rotary positions)",
    ("LlamaForCausalLM", "LlamaForSequenceClassification"),
    tuple(Row(*row) for row in _TABLE),
    "lm_head.weight",
    _expresses,
    _read,
    _write,
    buffers=(".rotary_emb.inv_freq",),  # of older versions of `transformers`
)

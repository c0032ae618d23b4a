"""GPT-NeoX's model directories, Pythia's too, as `transformers` reads and writes them (Black et al., 2022).

LayerNorm and GELU as in GPT-2, rotary positions on a share of each head, and attention and MLP side by side; query,
key and value of a head stand together in one matrix.
"""

from collections.abc import Mapping
from typing import Any

from gptcore.config import GPTConfig, usual_mlp_width
from gptcore.formats.fields import (
    ACTIVATIONS,
    MLP_WIDTH,
    SIZES,
    missing,
    of_another_model,
    refuse,
    unknown_activation,
    unless,
    wrong_sizes,
)
from gptcore.formats.parts import WHOLE, Part
from gptcore.formats.rope import read_rope, write_rope
from gptcore.formats.table import Row, TableFormat
from gptcore.untrusted import shown

# Hugging Face name                                            our name                      part
_TABLE = [
    ("gpt_neox.embed_in.weight",                               "token_embedding.weight",     WHOLE),
    ("gpt_neox.layers.{}.input_layernorm.weight",              "blocks.{}.ln_1.weight",      WHOLE),
    ("gpt_neox.layers.{}.input_layernorm.bias",                "blocks.{}.ln_1.bias",        WHOLE),
    ("gpt_neox.layers.{}.attention.query_key_value.weight",    "blocks.{}.attn.qkv.weight",  Part("by head")),
    ("gpt_neox.layers.{}.attention.query_key_value.bias",      "blocks.{}.attn.qkv.bias",    Part("by head")),
    ("gpt_neox.layers.{}.attention.dense.weight",              "blocks.{}.attn.proj.weight", WHOLE),
    ("gpt_neox.layers.{}.attention.dense.bias",                "blocks.{}.attn.proj.bias",   WHOLE),
    ("gpt_neox.layers.{}.post_attention_layernorm.weight",     "blocks.{}.ln_2.weight",      WHOLE),
    ("gpt_neox.layers.{}.post_attention_layernorm.bias",       "blocks.{}.ln_2.bias",        WHOLE),
    ("gpt_neox.layers.{}.mlp.dense_h_to_4h.weight",            "blocks.{}.mlp.fc.weight",    WHOLE),
    ("gpt_neox.layers.{}.mlp.dense_h_to_4h.bias",              "blocks.{}.mlp.fc.bias",      WHOLE),
    ("gpt_neox.layers.{}.mlp.dense_4h_to_h.weight",            "blocks.{}.mlp.proj.weight",  WHOLE),
    ("gpt_neox.layers.{}.mlp.dense_4h_to_h.bias",              "blocks.{}.mlp.proj.bias",    WHOLE),
    ("gpt_neox.final_layer_norm.weight",                       "ln_f.weight",                WHOLE),
    ("gpt_neox.final_layer_norm.bias",                         "ln_f.bias",                  WHOLE),
    ("embed_out.weight",                                       "head.weight",                WHOLE),
    ("score.weight",                                           "score.weight",               WHOLE),
]  # fmt: skip

_SIZES = SIZES | {MLP_WIDTH: "mlp_hidden"}
_SWITCHES = {"attention_bias": True, "use_parallel_residual": True, "tie_word_embeddings": False}


def _read(stored: Mapping[str, Any]) -> GPTConfig:
    given = {key: value for key, value in stored.items() if value is not None}
    found = missing(stored, _SIZES) + wrong_sizes(stored, _SIZES) + of_another_model(stored)
    older = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    names = {name: given[old] for name, old in older.items() if old in given}
    rope = read_rope({"partial_rotary_factor": 0.25, **names, **given}, found)
    flags = {key: given.get(key, default) for key, default in _SWITCHES.items()}
    found += [f"{key} = {shown(flag)}: expected true or false" for key, flag in flags.items() if type(flag) is not bool]
    act = given.get("hidden_act", "gelu")
    found += unknown_activation("hidden_act", act)
    refuse(found)
    return GPTConfig(
        **{ours: given[theirs] for theirs, ours in SIZES.items()},
        mlp=ACTIVATIONS[act],
        mlp_hidden=unless(usual_mlp_width(given["hidden_size"], gated=False), given[MLP_WIDTH]),
        layer_norm_eps=given.get("layer_norm_eps", 1e-5),
        dropout=given.get("hidden_dropout", 0.0),
        attention_bias="same" if flags["attention_bias"] else "none",
        tie_weights=flags["tie_word_embeddings"],
        residual="parallel" if flags["use_parallel_residual"] else "serial",
        positions="rotary",
        rope_theta=rope.theta,
        rotary_share=rope.share,
        rope_scaling=rope.scaling,
    )


def _write(config: GPTConfig) -> dict[str, Any]:
    return {
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        MLP_WIDTH: config.mlp_width,
        "hidden_act": "gelu" if config.mlp == "gelu-exact" else "gelu_pytorch_tanh",
        "layer_norm_eps": config.layer_norm_eps,
        "attention_bias": config.qkv_bias,
        "attention_dropout": config.dropout,
        "hidden_dropout": config.dropout,
        "use_parallel_residual": config.residual == "parallel",
        "rope_parameters": {"partial_rotary_factor": config.rotary_share} | write_rope(config),
        "rotary_emb_base": config.rope_theta,  # where transformers before 5 and other runtimes look for them
        "rotary_pct": config.rotary_share,
        "tie_word_embeddings": config.tie_weights,
    }


def _expresses(config: GPTConfig) -> bool:
    parts = (config.positions, config.norm, config.bias, config.gated, config.qk_norm)
    heads = config.kv_heads == config.n_head and config.attention_width == config.d_model
    biases = config.qkv_bias == config.attention_proj_bias
    return parts == ("rotary", "layernorm", True, False, False) and heads and biases


FORMAT = TableFormat(
    "gpt_neox",
    "GPT-NeoX-type",
    "GPT-NeoX (pre-norm, LayerNorm, {gelu}, rotary positions)",
    ("GPTNeoXForCausalLM", "GPTNeoXForSequenceClassification"),
    tuple(Row(*row) for row in _TABLE),
    "embed_out.weight",
    _expresses,
    _read,
    _write,
    buffers=(".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"),  # of older `transformers`
)

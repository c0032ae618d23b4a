"""GPT-2's model directories, as `transformers` reads and writes them (Radford et al., 2019)."""

from collections.abc import Mapping
from typing import Any

from gptcore.config import GPTConfig
from gptcore.formats.fields import (
    ACTIVATIONS,
    missing,
    of_another_model,
    other_values,
    refuse,
    unknown_activation,
    unless,
    wrong_sizes,
)
from gptcore.formats.parts import TRANSPOSED, WHOLE
from gptcore.formats.table import Row, TableFormat

# Hugging Face name                      our name                          part
_TABLE = [
    ("transformer.wte.weight",           "token_embedding.weight",         WHOLE),
    ("transformer.wpe.weight",           "position_embedding.weight",      WHOLE),
    ("transformer.h.{}.ln_1.weight",     "blocks.{}.ln_1.weight",          WHOLE),
    ("transformer.h.{}.ln_1.bias",       "blocks.{}.ln_1.bias",            WHOLE),
    ("transformer.h.{}.attn.c_attn.weight", "blocks.{}.attn.qkv.weight",   TRANSPOSED),
    ("transformer.h.{}.attn.c_attn.bias",   "blocks.{}.attn.qkv.bias",     WHOLE),
    ("transformer.h.{}.attn.c_proj.weight", "blocks.{}.attn.proj.weight",  TRANSPOSED),
    ("transformer.h.{}.attn.c_proj.bias",   "blocks.{}.attn.proj.bias",    WHOLE),
    ("transformer.h.{}.ln_2.weight",     "blocks.{}.ln_2.weight",          WHOLE),
    ("transformer.h.{}.ln_2.bias",       "blocks.{}.ln_2.bias",            WHOLE),
    ("transformer.h.{}.mlp.c_fc.weight", "blocks.{}.mlp.fc.weight",        TRANSPOSED),
    ("transformer.h.{}.mlp.c_fc.bias",   "blocks.{}.mlp.fc.bias",          WHOLE),
    ("transformer.h.{}.mlp.c_proj.weight", "blocks.{}.mlp.proj.weight",    TRANSPOSED),
    ("transformer.h.{}.mlp.c_proj.bias",   "blocks.{}.mlp.proj.bias",      WHOLE),
    ("transformer.ln_f.weight",          "ln_f.weight",                    WHOLE),
    ("transformer.ln_f.bias",            "ln_f.bias",                      WHOLE),
    ("lm_head.weight",                   "head.weight",                    WHOLE),
    ("score.weight",                     "score.weight",                   WHOLE),
]  # fmt: skip

# Hugging Face config key → ours
_FIELDS = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_embd": "d_model",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "layer_norm_epsilon": "layer_norm_eps",
}
# keys that change the forward pass, with the only value this model computes
_REQUIRED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def _read(stored: Mapping[str, Any]) -> GPTConfig:
    problems = missing(stored, _FIELDS, "layer_norm_epsilon")
    inner = {"n_inner": stored["n_inner"]} if stored.get("n_inner") is not None else {}
    problems += wrong_sizes(stored, _FIELDS) + wrong_sizes(inner, {"n_inner": "mlp_hidden"})
    act = stored.get("activation_function", "gelu_new")
    problems += unknown_activation("activation_function", act) + of_another_model(stored)
    refuse(problems + other_values(stored, _REQUIRED))
    return GPTConfig(
        **{ours: stored[key] for key, ours in _FIELDS.items() if key in stored},
        mlp=ACTIVATIONS[act],
        dropout=stored.get("resid_pdrop", 0.1),
        tie_weights=stored.get("tie_word_embeddings", True),
        mlp_hidden=unless(4 * stored["n_embd"], inner.get("n_inner", 0)),
    )


def _write(config: GPTConfig) -> dict[str, Any]:
    return {
        **{key: getattr(config, ours) for key, ours in _FIELDS.items()},
        "activation_function": "gelu" if config.mlp == "gelu-exact" else "gelu_new",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_weights,
        **({"n_inner": config.mlp_hidden} if config.mlp_hidden else {}),
    }


def _expresses(config: GPTConfig) -> bool:
    parts = (config.positions, config.norm, config.gated, config.residual, config.qk_norm)
    whole_heads = config.kv_heads == config.n_head and config.attention_width == config.d_model
    return parts == ("learned", "layernorm", False, "serial", False) and whole_heads


FORMAT = TableFormat(
    "gpt2",
    "GPT-2",
    "GPT-2 (pre-norm, {gelu}, learned positions)",
    ("GPT2LMHeadModel", "GPT2ForSequenceClassification"),
    tuple(Row(*row) for row in _TABLE),
    "lm_head.weight",
    _expresses,
    _read,
    _write,
    zero_biases=True,
    buffers=(".attn.bias", ".attn.masked_bias"),  # attention masks of older versions of `transformers`
    prefix=("transformer.", ("wte.", "wpe.", "h.", "ln_f.")),  # OpenAI's upload leaves it out
)

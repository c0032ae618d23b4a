"""What Llama's directories and those of its relatives have in common: names of tensors, sizes, rotary positions.

The relatives differ in which of attention's layers have a bias, and in norms on queries and keys; each has a module
in `families`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gptcore.config import GPTConfig, usual_mlp_width
from gptcore.formats.fields import (
    MLP_WIDTH,
    SIZES,
    missing,
    of_another_model,
    other_values,
    refuse,
    unless,
    wrong_sizes,
)
from gptcore.formats.parts import WHOLE, Part
from gptcore.formats.rope import read_rope, write_rope
from gptcore.formats.table import Row, TableFormat
from gptcore.untrusted import shown

# Hugging Face name                                  our name                         part
_TABLE = [
    ("model.embed_tokens.weight",                    "token_embedding.weight",        WHOLE),
    ("model.layers.{}.input_layernorm.weight",       "blocks.{}.ln_1.weight",         WHOLE),
    ("model.layers.{}.self_attn.q_proj.weight",      "blocks.{}.attn.qkv.weight",     Part("q")),
    ("model.layers.{}.self_attn.k_proj.weight",      "blocks.{}.attn.qkv.weight",     Part("k")),
    ("model.layers.{}.self_attn.v_proj.weight",      "blocks.{}.attn.qkv.weight",     Part("v")),
    ("model.layers.{}.self_attn.q_proj.bias",        "blocks.{}.attn.qkv.bias",       Part("q")),
    ("model.layers.{}.self_attn.k_proj.bias",        "blocks.{}.attn.qkv.bias",       Part("k")),
    ("model.layers.{}.self_attn.v_proj.bias",        "blocks.{}.attn.qkv.bias",       Part("v")),
    ("model.layers.{}.self_attn.q_norm.weight",      "blocks.{}.attn.q_norm.weight",  WHOLE),
    ("model.layers.{}.self_attn.k_norm.weight",      "blocks.{}.attn.k_norm.weight",  WHOLE),
    ("model.layers.{}.self_attn.o_proj.weight",      "blocks.{}.attn.proj.weight",    WHOLE),
    ("model.layers.{}.self_attn.o_proj.bias",        "blocks.{}.attn.proj.bias",      WHOLE),
    ("model.layers.{}.post_attention_layernorm.weight", "blocks.{}.ln_2.weight",      WHOLE),
    ("model.layers.{}.mlp.gate_proj.weight",         "blocks.{}.mlp.fc.weight",       Part("gate")),
    ("model.layers.{}.mlp.up_proj.weight",           "blocks.{}.mlp.fc.weight",       Part("up")),
    ("model.layers.{}.mlp.gate_proj.bias",           "blocks.{}.mlp.fc.bias",         Part("gate")),
    ("model.layers.{}.mlp.up_proj.bias",             "blocks.{}.mlp.fc.bias",         Part("up")),
    ("model.layers.{}.mlp.down_proj.weight",         "blocks.{}.mlp.proj.weight",     WHOLE),
    ("model.layers.{}.mlp.down_proj.bias",           "blocks.{}.mlp.proj.bias",       WHOLE),
    ("model.norm.weight",                            "ln_f.weight",                   WHOLE),
    ("lm_head.weight",                               "head.weight",                   WHOLE),
    ("score.weight",                                 "score.weight",                  WHOLE),
]  # fmt: skip
TABLE = tuple(Row(*row) for row in _TABLE)
BUFFERS = (".rotary_emb.inv_freq",)
"""Of older versions of `transformers`."""

_SIZES = SIZES | {MLP_WIDTH: "mlp_hidden"}
_HEADS = {"num_key_value_heads": "n_kv_head", "head_dim": "head_width"}


def read_config(
    stored: Mapping[str, Any],
    *,
    switches: Sequence[str] = (),
    required: Sequence[str] = (),
    computed: Mapping[str, Any] | None = None,
    options: Any = None,
) -> GPTConfig:
    """``config.json`` → ours, with everything that is wrong in one ``ValueError``.

    ``switches`` are the family's keys that are true or false (default false), from which ``options`` makes fields of
    ours; ``required`` those that this family states always; ``computed`` values that this model computes only.
    """
    given = {key: value for key, value in stored.items() if value is not None}  # null stands for the default
    found = missing(stored, [*_SIZES, *required]) + wrong_sizes(stored, _SIZES) + wrong_sizes(given, _HEADS)
    rope = read_rope(stored, found)
    flags = {key: given.get(key, False) for key in (*switches, "tie_word_embeddings", "use_sliding_window")}
    found += [f"{key} = {shown(flag)}: expected true or false" for key, flag in flags.items() if type(flag) is not bool]
    found += of_another_model(stored) + other_values(
        given, {"hidden_act": "silu", "use_sliding_window": False, **(computed or {})}
    )
    kinds = given.get("layer_types", [])
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        found.append(f"layer_types = {shown(kinds)}: this model computes 'full_attention' only")
    if rope.share != 1.0:
        found.append(f"partial_rotary_factor = {shown(rope.share)}: this family turns whole heads")
    refuse(found)
    width, heads = given["hidden_size"], given["num_attention_heads"]
    return GPTConfig(
        **{ours: given[theirs] for theirs, ours in SIZES.items()},
        n_kv_head=unless(heads, given.get("num_key_value_heads")),
        head_width=unless(width // heads if width % heads == 0 else 0, given.get("head_dim")),
        layer_norm_eps=given.get("rms_norm_eps", 1e-6),
        dropout=given.get("attention_dropout", 0.0),
        tie_weights=flags["tie_word_embeddings"],
        rope_theta=rope.theta,
        rope_scaling=rope.scaling,
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
        mlp_hidden=unless(usual_mlp_width(width, gated=True), given[MLP_WIDTH]),
        **(options(flags) if options else {}),
    )


def write_config(config: GPTConfig) -> dict[str, Any]:
    """The fields that all of them have."""
    return {
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        MLP_WIDTH: config.mlp_width,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.layer_norm_eps,
        "hidden_act": "silu",
        "attention_dropout": config.dropout,
        "rope_parameters": write_rope(config),
        "rope_theta": config.rope_theta,  # where transformers before 5 and other runtimes look for it
        "tie_word_embeddings": config.tie_weights,
    }


def expresses(config: GPTConfig) -> bool:
    """What all of them compute."""
    parts = (config.positions, config.norm, config.mlp, config.residual, config.rotary_share)
    return parts == ("rotary", "rmsnorm", "swiglu", "serial", 1.0)


def family(
    model_type: str,
    classes: str,
    description: str,
    read: Callable[[Mapping[str, Any]], GPTConfig],
    write: Callable[[GPTConfig], dict[str, Any]],
    expresses: Callable[[GPTConfig], bool],
) -> TableFormat:
    """One of them; ``classes`` is how `transformers` begins the names of its classes."""
    architectures = (f"{classes}ForCausalLM", f"{classes}ForSequenceClassification")
    title = f"{classes}-type"
    return TableFormat(
        model_type, title, description, architectures, TABLE, "lm_head.weight", expresses, read, write, buffers=BUFFERS
    )

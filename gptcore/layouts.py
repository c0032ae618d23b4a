"""Three ways to name a model's parameters and fields in a directory: GPT-2's, Llama's and our own.

A layout is a table of names and two functions between its ``config.json`` and `GPTConfig`; `gpt2.py` reads and
writes the files.  ``GPT2`` and ``LLAMA`` are what `transformers` and most other runtimes read, and each says
which configurations it can express *exactly*; ``GPTCORE`` has our own names and expresses all of them.

A column of the tables says how their tensor comes from ours: ``T`` transposed (GPT-2 stores linear layers as
(in, out)), ``2/3`` the second third of the rows (Llama keeps queries, keys and values apart, gate and up too).

Rejected: guessing the nearest architecture for the rest.  A model that loads and computes another function
is worse than one that does not load.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from torch import Tensor, nn

from gptcore.config import GPTConfig


class Row(NamedTuple):
    """One of their tensors and where it is in ours."""

    theirs: str
    ours: str
    how: str = ""

    def view(self, tensor: Tensor) -> Tensor:
        """The part of our ``tensor`` that the row is about, in their orientation; shares its memory."""
        if self.how == "T":
            return tensor.T
        part, _, parts = self.how.partition("/")
        return tensor.chunk(int(parts))[int(part) - 1] if parts else tensor


@dataclass(frozen=True)
class Layout:
    """Names of a kind of model directory; ``read`` raises ``ValueError`` for what the model can't compute."""

    model_type: str
    architectures: tuple[str, str]
    """Of a language model, of a classifier."""
    table: tuple[Row, ...]
    """``{}`` stands for the layer; empty: every parameter under its own name."""
    head: str
    """Their name of the head; a tied one may be stored all the same."""
    expresses: Callable[[GPTConfig], bool]
    """Whether a model of this configuration can be stored without changing what it computes."""
    read: Callable[[Mapping[str, Any]], GPTConfig]
    write: Callable[[GPTConfig], dict[str, Any]]
    zero_biases: bool = False
    """Whether a bias that the model goes without is stored as zeros."""
    buffers: tuple[str, ...] = ()
    """Ends of names under which older programs stored what is no parameter."""
    prefix: tuple[str, tuple[str, ...]] = ("", ())
    """What some programs leave out before names that begin so."""

    def rows(self, model: nn.Module) -> Iterator[Row]:
        """What is stored of ``model``, a GPT or a Classifier, layer numbers filled in, our names as in the GPT.

        A tied head is the embedding, and a classifier has no use for the head: neither is stored.
        """
        names = {name.removeprefix("gpt."): None for name, _ in model.named_parameters()}  # in the model's order
        if "score.weight" in names:
            names.pop("head.weight", None)
        layers = 1 + max(int(name.split(".")[1]) for name in names if name.startswith("blocks."))
        for theirs, ours, how in self.table or [(name, name, "") for name in names]:
            for layer in range(layers if "{}" in theirs else 1):
                row = Row(theirs.format(layer), ours.format(layer), how)
                if row.ours in names or (self.zero_biases and ours.endswith(".bias")):
                    yield row

    def canonical(self, name: str) -> str:
        prefix, beginnings = self.prefix
        return prefix + name if name.startswith(beginnings) else name

    def is_buffer(self, name: str) -> bool:
        return name.endswith(self.buffers)


# --- GPT-2 -----------------------------------------------------------------------------------------------

# Hugging Face name                      our name                          how
_GPT2_TABLE = [
    ("transformer.wte.weight",           "token_embedding.weight",         ""),
    ("transformer.wpe.weight",           "position_embedding.weight",      ""),
    ("transformer.h.{}.ln_1.weight",     "blocks.{}.ln_1.weight",          ""),
    ("transformer.h.{}.ln_1.bias",       "blocks.{}.ln_1.bias",            ""),
    ("transformer.h.{}.attn.c_attn.weight", "blocks.{}.attn.qkv.weight",   "T"),
    ("transformer.h.{}.attn.c_attn.bias",   "blocks.{}.attn.qkv.bias",     ""),
    ("transformer.h.{}.attn.c_proj.weight", "blocks.{}.attn.proj.weight",  "T"),
    ("transformer.h.{}.attn.c_proj.bias",   "blocks.{}.attn.proj.bias",    ""),
    ("transformer.h.{}.ln_2.weight",     "blocks.{}.ln_2.weight",          ""),
    ("transformer.h.{}.ln_2.bias",       "blocks.{}.ln_2.bias",            ""),
    ("transformer.h.{}.mlp.c_fc.weight", "blocks.{}.mlp.fc.weight",        "T"),
    ("transformer.h.{}.mlp.c_fc.bias",   "blocks.{}.mlp.fc.bias",          ""),
    ("transformer.h.{}.mlp.c_proj.weight", "blocks.{}.mlp.proj.weight",    "T"),
    ("transformer.h.{}.mlp.c_proj.bias",   "blocks.{}.mlp.proj.bias",      ""),
    ("transformer.ln_f.weight",          "ln_f.weight",                    ""),
    ("transformer.ln_f.bias",            "ln_f.bias",                      ""),
    ("lm_head.weight",                   "head.weight",                    ""),
    ("score.weight",                     "score.weight",                   ""),
]  # fmt: skip

# Hugging Face config key → ours
_GPT2_FIELDS = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_embd": "d_model",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "layer_norm_epsilon": "layer_norm_eps",
}
# keys that change the forward pass, with the only value this model computes
_GPT2_REQUIRED = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def _read_gpt2(stored: Mapping[str, Any]) -> GPTConfig:
    problems = _missing(stored, _GPT2_FIELDS, "layer_norm_epsilon")
    problems += _other_values(stored, _GPT2_REQUIRED)
    if stored.get("n_inner") not in (None, 4 * (stored.get("n_embd") or 0)):
        problems.append(f"n_inner = {stored['n_inner']}: this model computes 4 * n_embd only")
    if problems:
        raise ValueError("; ".join(problems))
    return GPTConfig(
        **{ours: stored[key] for key, ours in _GPT2_FIELDS.items() if key in stored},
        dropout=stored.get("resid_pdrop", 0.1),
        tie_weights=stored.get("tie_word_embeddings", True),
    )


def _write_gpt2(config: GPTConfig) -> dict[str, Any]:
    return {
        **{key: getattr(config, ours) for key, ours in _GPT2_FIELDS.items()},
        "activation_function": "gelu_new",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_weights,
    }


GPT2 = Layout(
    "gpt2",
    ("GPT2LMHeadModel", "GPT2ForSequenceClassification"),
    tuple(Row(*row) for row in _GPT2_TABLE),
    "lm_head.weight",
    lambda config: (config.positions, config.norm, config.mlp) == ("learned", "layernorm", "gelu"),
    _read_gpt2,
    _write_gpt2,
    zero_biases=True,
    buffers=(".attn.bias", ".attn.masked_bias"),  # attention masks of older versions of `transformers`
    prefix=("transformer.", ("wte.", "wpe.", "h.", "ln_f.")),  # OpenAI's upload leaves it out
)

# --- Llama -----------------------------------------------------------------------------------------------

# Hugging Face name                                  our name                         how
_LLAMA_TABLE = [
    ("model.embed_tokens.weight",                    "token_embedding.weight",        ""),
    ("model.layers.{}.input_layernorm.weight",       "blocks.{}.ln_1.weight",         ""),
    ("model.layers.{}.self_attn.q_proj.weight",      "blocks.{}.attn.qkv.weight",     "1/3"),
    ("model.layers.{}.self_attn.k_proj.weight",      "blocks.{}.attn.qkv.weight",     "2/3"),
    ("model.layers.{}.self_attn.v_proj.weight",      "blocks.{}.attn.qkv.weight",     "3/3"),
    ("model.layers.{}.self_attn.q_proj.bias",        "blocks.{}.attn.qkv.bias",       "1/3"),
    ("model.layers.{}.self_attn.k_proj.bias",        "blocks.{}.attn.qkv.bias",       "2/3"),
    ("model.layers.{}.self_attn.v_proj.bias",        "blocks.{}.attn.qkv.bias",       "3/3"),
    ("model.layers.{}.self_attn.o_proj.weight",      "blocks.{}.attn.proj.weight",    ""),
    ("model.layers.{}.self_attn.o_proj.bias",        "blocks.{}.attn.proj.bias",      ""),
    ("model.layers.{}.post_attention_layernorm.weight", "blocks.{}.ln_2.weight",      ""),
    ("model.layers.{}.mlp.gate_proj.weight",         "blocks.{}.mlp.fc.weight",       "1/2"),
    ("model.layers.{}.mlp.up_proj.weight",           "blocks.{}.mlp.fc.weight",       "2/2"),
    ("model.layers.{}.mlp.gate_proj.bias",           "blocks.{}.mlp.fc.bias",         "1/2"),
    ("model.layers.{}.mlp.up_proj.bias",             "blocks.{}.mlp.fc.bias",         "2/2"),
    ("model.layers.{}.mlp.down_proj.weight",         "blocks.{}.mlp.proj.weight",     ""),
    ("model.layers.{}.mlp.down_proj.bias",           "blocks.{}.mlp.proj.bias",       ""),
    ("model.norm.weight",                            "ln_f.weight",                   ""),
    ("lm_head.weight",                               "head.weight",                   ""),
    ("score.weight",                                 "score.weight",                  ""),
]  # fmt: skip

_LLAMA_FIELDS = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "context_length",
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "rms_norm_eps": "layer_norm_eps",
}


def _read_llama(stored: Mapping[str, Any]) -> GPTConfig:
    rope = {**(stored.get("rope_scaling") or {}), **(stored.get("rope_parameters") or {})}  # of v4, of v5
    problems = _missing({**stored, "rms_norm_eps": None}, _LLAMA_FIELDS)
    if "intermediate_size" not in stored:
        problems.append("intermediate_size: missing")
    if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
        problems.append(f"rope_type = {kind!r}: this model computes 'default' only")
    if problems:
        raise ValueError("; ".join(problems))
    config = GPTConfig(
        **{"layer_norm_eps": 1e-6} | {ours: stored[key] for key, ours in _LLAMA_FIELDS.items() if key in stored},
        dropout=stored.get("attention_dropout") or 0.0,
        bias=bool(stored.get("attention_bias", False)),
        tie_weights=stored.get("tie_word_embeddings", False),
        rope_theta=rope.get("rope_theta", stored.get("rope_theta", 10000.0)),
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
    )
    given = {key: value for key, value in stored.items() if value is not None}  # null stands for what follows
    if problems := _other_values({"mlp_bias": False, **given}, _llama_shape(config)):
        raise ValueError("; ".join(problems))
    return config


def _llama_shape(config: GPTConfig) -> dict[str, Any]:
    """What follows from our configuration and Llama could have otherwise: grouped heads, another width, …"""
    return {
        "hidden_act": "silu",
        "intermediate_size": config.mlp_width,
        "num_key_value_heads": config.n_head,
        "head_dim": config.head_dim,
        "mlp_bias": config.bias,
    }


def _write_llama(config: GPTConfig) -> dict[str, Any]:
    return {
        **{key: getattr(config, ours) for key, ours in _LLAMA_FIELDS.items()},
        **_llama_shape(config),
        "attention_bias": config.bias,
        "attention_dropout": config.dropout,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,  # where transformers before 5 and other runtimes look for it
        "tie_word_embeddings": config.tie_weights,
    }


LLAMA = Layout(
    "llama",
    ("LlamaForCausalLM", "LlamaForSequenceClassification"),
    tuple(Row(*row) for row in _LLAMA_TABLE),
    "lm_head.weight",
    lambda config: (config.positions, config.norm, config.mlp) == ("rotary", "rmsnorm", "swiglu"),
    _read_llama,
    _write_llama,
    buffers=(".rotary_emb.inv_freq",),  # of older versions of `transformers`
)

# --- our own ---------------------------------------------------------------------------------------------

_ENVELOPE = {"model_type", "architectures", "dtype", "id2label", "label2id"} | {
    f"{kind}_token_id" for kind in ("bos", "eos", "pad")
}

_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def _read_gptcore(stored: Mapping[str, Any]) -> GPTConfig:
    """Unknown keys are refused: they are options of a later version, and would change what is computed."""
    known = {field.name: type(field.default) for field in fields(GPTConfig)}
    sizes = ("vocab_size", "context_length", "d_model", "n_layer", "n_head")
    problems = _missing(stored, dict.fromkeys(sizes))
    problems += [f"{key}: unknown to this version of gptcore" for key in sorted(set(stored) - set(known) - _ENVELOPE)]
    values = {name: stored[name] for name in known if name in stored}
    problems += [
        f"{name} = {value!r}: expected {_IN_WORDS[known[name]]}"
        for name, value in values.items()
        if type(value) not in ((float, int) if known[name] is float else (known[name],))
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return GPTConfig(**values)


GPTCORE = Layout("gptcore", ("GPT", "Classifier"), (), "head.weight", lambda config: True, _read_gptcore, asdict)

# --- which one -------------------------------------------------------------------------------------------

LAYOUTS = {layout.model_type: layout for layout in (GPT2, LLAMA, GPTCORE)}


def native(config: GPTConfig) -> Layout:
    """The layout of our checkpoints: GPT-2's where it is exact, else our own."""
    return GPT2 if GPT2.expresses(config) else GPTCORE


def portable(config: GPTConfig) -> Layout:
    """The layout that most other programs read, where one of them is exact; else our own."""
    return next(layout for layout in (GPT2, LLAMA, GPTCORE) if layout.expresses(config))


def _missing(stored: Mapping[str, Any], names: Mapping[str, Any], optional: str = "") -> list[str]:
    return [f"{key}: missing" for key in names if key not in stored and key != optional]


def _other_values(stored: Mapping[str, Any], computed: Mapping[str, Any]) -> list[str]:
    """Keys with another value than the one this model computes, for which an absent key stands too."""
    return [
        f"{key} = {stored[key]!r}: this model computes {value!r} only"
        for key, value in computed.items()
        if key in stored and stored[key] != value
    ]

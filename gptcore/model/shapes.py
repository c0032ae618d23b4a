"""The shape of every parameter of a model, from its configuration alone.

What a file holds can thus be compared with what its configuration asks for before a byte is allocated.  Modules on
PyTorch's ``meta`` device would say the same, but initialising them imports its compiler, for a second.  A test holds
this list to what the modules make.
"""

from gptcore.config import GPTConfig

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(config: GPTConfig) -> Shapes:
    """Name → shape, as ``GPT(config).named_parameters()`` has them and in its order; a tied head is left out."""
    C, V = config.d_model, config.vocab_size
    shapes: Shapes = {"token_embedding.weight": (V, C)}
    if config.positions == "learned":
        shapes["position_embedding.weight"] = (config.context_length, C)
    block = _block(config)
    for layer in range(config.n_layer):
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    shapes |= _norm("ln_f", config)
    return shapes if config.tie_weights else shapes | {"head.weight": (V, C)}


def _block(config: GPTConfig) -> Shapes:
    C, W = config.d_model, config.mlp_width
    head_norm: Shapes = {f"attn.{name}_norm.weight": (config.head_dim,) for name in ("q", "k") if config.qk_norm}
    return {
        **_norm("ln_1", config),
        **_linear("attn.qkv", config.qkv_width, C, config.qkv_bias),
        **head_norm,
        **_linear("attn.proj", C, config.attention_width, config.attention_proj_bias),
        **_norm("ln_2", config),
        **_linear("mlp.fc", 2 * W if config.gated else W, C, config.bias),
        **_linear("mlp.proj", C, W, config.bias),
    }


def _norm(name: str, config: GPTConfig) -> Shapes:
    weight: Shapes = {f"{name}.weight": (config.d_model,)}
    return weight | {f"{name}.bias": (config.d_model,)} if config.bias and config.norm == "layernorm" else weight


def _linear(name: str, rows: int, columns: int, bias: bool) -> Shapes:
    weight: Shapes = {f"{name}.weight": (rows, columns)}
    return weight | {f"{name}.bias": (rows,)} if bias else weight

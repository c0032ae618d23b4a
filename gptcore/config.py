"""The shape of a GPT: its architecture and what the data decide, checked when it is made.

The names are those of the library's public interface; `formats` translates them to and from the names in a
Hugging Face ``config.json``.  Presets hold the four published GPT-2 sizes (Radford et al., 2019) and two
small ones that train in minutes on a laptop.

The defaults are GPT-2's.  Every other field changes one thing about it, and they combine freely; some
combinations are Llama (Touvron et al., 2023), Qwen2, Qwen3 and GPT-NeoX (docs/architecture.md).
"""

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from gptcore.ranges import LATER, Checked, Context, Number, OneOf, Switch, Whole, later, relation
from gptcore.rope_scaling import RopeScaling

CHOICES = {
    "positions": ("learned", "rotary"),
    "norm": ("layernorm", "rmsnorm"),
    "mlp": ("gelu", "gelu-exact", "swiglu"),
    "residual": ("serial", "parallel"),
    "attention_bias": ("same", "none", "qkv", "all"),
}

Width = Annotated[int, Whole(1, 65_536)]
Layers = Annotated[int, Whole(1, 1_024)]
Heads = Annotated[int, Whole(1, 1_024)]
Probability = Annotated[float, Number(0, 1, open_high=True)]
Vocabulary = Annotated[int, Whole(1, 16_777_216)]


def usual_mlp_width(d_model: int, gated: bool) -> int:
    """4·d_model, or for SwiGLU, whose three matrices should cost what two do, 8/3·d_model rounded up to a multiple
    of 64."""
    return -(-8 * d_model // (3 * 64)) * 64 if gated else 4 * d_model


@dataclass(frozen=True, kw_only=True)
class Architecture(Checked):
    """What one chooses of a model; its vocabulary and context come from the data."""

    d_model: Width
    """Width of the residual stream."""
    n_layer: Layers
    """Number of transformer blocks."""
    n_head: Heads
    """Attention heads per block; d_model must be a multiple of it, unless ``head_width`` is given."""
    dropout: Probability
    """Probability of zeroing an activation in training (embedding, attention weights, residual branches)."""
    bias: Annotated[bool, Switch()] = True
    """Whether linear layers and LayerNorms have a bias, as GPT-2's do; an RMSNorm and the head never have."""
    tie_weights: Annotated[bool, Switch()] = True
    """Whether the head shares the token embedding's matrix, as GPT-2's does."""
    layer_norm_eps: Annotated[float, Number(0, 1, open_low=True, open_high=True)] = 1e-5
    """Added to the variance in LayerNorm, to the mean square in RMSNorm."""
    positions: Annotated[str, OneOf(CHOICES["positions"])] = "learned"
    """``learned``: a vector per position is added to the token's, as in GPT-2; ``rotary``: queries and keys are
    turned by their positions, so that attention sees distances (Su et al., 2021)."""
    rope_theta: Annotated[float, Number(1, 1e15)] = 10000.0
    """Base of the rotary wavelengths, 2π to nearly 2π·theta tokens; used with ``positions: rotary`` only."""
    norm: Annotated[str, OneOf(CHOICES["norm"])] = "layernorm"
    """``layernorm``, or ``rmsnorm``, which neither subtracts the mean nor adds a bias (Zhang & Sennrich, 2019)."""
    mlp: Annotated[str, OneOf(CHOICES["mlp"])] = "gelu"
    """``gelu``: widened, GELU in its tanh form; ``gelu-exact``: by the error function, as GPT-NeoX has it; ``swiglu``:
    gated by SiLU (Shazeer, 2020)."""
    mlp_hidden: Annotated[int, Whole(0, 1_048_576)] = later(0)
    """Channels between the MLP's layers; 0: ``usual_mlp_width``."""
    n_kv_head: Annotated[int, Whole(0, 1_024)] = later(0)
    """Heads of keys and values, each shared by n_head / n_kv_head queries (Ainslie et al., 2023); 0: n_head."""
    head_width: Annotated[int, Whole(0, 65_536)] = later(0)
    """Channels of an attention head; 0: d_model / n_head."""
    attention_bias: Annotated[str, OneOf(CHOICES["attention_bias"])] = later("same")
    """Which of attention's layers have a bias: as ``bias`` says, none, queries, keys and values (Qwen2), or all."""
    qk_norm: Annotated[bool, Switch()] = later(False)
    """Whether each head's queries and keys pass an RMSNorm before they are turned (Qwen3)."""
    rotary_share: Annotated[float, Number(0, 1, open_low=True)] = later(1.0)
    """Share of a head's channels, the first ones, that rotary positions turn (GPT-NeoX: a quarter)."""
    residual: Annotated[str, OneOf(CHOICES["residual"])] = later("serial")
    """``serial``: the MLP sees what attention added; ``parallel``: both see the block's input (GPT-NeoX)."""

    @relation("d_model", "n_head", "head_width")
    def _has_whole_heads(self) -> str | None:
        if self.head_width or self.d_model % self.n_head == 0:
            return None
        return f"d_model = {self.d_model}: expected a multiple of n_head = {self.n_head}"

    @relation("n_head", "n_kv_head")
    def _shares_evenly(self) -> str | None:
        if self.n_head % self.kv_heads == 0:
            return None
        return f"n_kv_head = {self.n_kv_head}: expected a divisor of n_head = {self.n_head}"

    @relation("d_model", "n_head", "positions", "head_width", "rotary_share")
    def _turns_pairs(self) -> str | None:
        if self._has_whole_heads() or self.positions != "rotary" or (self.rotary_dim and self.rotary_dim % 2 == 0):
            return None
        turned = "d_model / n_head" if self.rotary_share == 1 else "rotary_share of a head"
        return f"{turned} = {self.rotary_dim}: rotary positions turn pairs of channels and need an even number"

    @property
    def unusual(self) -> dict[str, str]:
        """The options beyond GPT-2's and the first Llama's that this model makes use of, in words."""
        marked = [(f, getattr(self, f.name)) for f in fields(self) if LATER in f.metadata]
        return {f.name: str(getattr(value, "kind", value)) for f, value in marked if value != f.default}

    @property
    def head_dim(self) -> int:
        """Channels of an attention head."""
        return self.head_width or self.d_model // self.n_head

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_kv_head or self.n_head

    @property
    def rotary_dim(self) -> int:
        """Channels of a head that rotary positions turn."""
        return int(self.head_dim * self.rotary_share)

    @property
    def qkv_width(self) -> int:
        """Rows of the matrix that makes queries, keys and values."""
        return (self.n_head + 2 * self.kv_heads) * self.head_dim

    @property
    def attention_width(self) -> int:
        """Channels of all heads together."""
        return self.n_head * self.head_dim

    @property
    def qkv_bias(self) -> bool:
        return self.bias if self.attention_bias == "same" else self.attention_bias in ("qkv", "all")

    @property
    def attention_proj_bias(self) -> bool:
        return self.bias if self.attention_bias == "same" else self.attention_bias == "all"

    @property
    def gated(self) -> bool:
        """Whether one half of the MLP's channels gates the other."""
        return self.mlp == "swiglu"

    @property
    def mlp_width(self) -> int:
        """Channels between the MLP's layers."""
        return self.mlp_hidden or usual_mlp_width(self.d_model, self.gated)

    def for_data(self, vocab_size: int, context_length: int) -> "GPTConfig":
        """The whole configuration."""
        return GPTConfig(**vars(self), vocab_size=vocab_size, context_length=context_length)


@dataclass(frozen=True, kw_only=True)
class GPTConfig(Architecture):
    """Everything that decides the parameters' shapes and the forward pass; the defaults are GPT-2's."""

    vocab_size: Vocabulary = 50257
    """Rows of the token embedding; ids run from 0 to vocab_size - 1."""
    context_length: Context = 1024
    """Most tokens that one forward pass sees; rows of the position embedding, if there is one."""
    d_model: Width = 768
    n_layer: Layers = 12
    n_head: Heads = 12
    dropout: Probability = 0.0
    rope_scaling: RopeScaling | None = field(default=None, metadata={LATER: True})
    """How rotary positions were stretched over a longer context than the model was trained on, if they were."""

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "GPTConfig":
        """A published or small configuration by name, with ``changes`` applied."""
        if name not in PRESETS:
            raise ValueError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
        return replace(PRESETS[name], **changes)


PRESETS = {
    "tiny": GPTConfig(context_length=64, d_model=64, n_layer=2, n_head=2),
    "small": GPTConfig(context_length=256, d_model=384, n_layer=6, n_head=6),
    "gpt2": GPTConfig(),  # 124M parameters
    "gpt2-medium": GPTConfig(d_model=1024, n_layer=24, n_head=16),  # 355M
    "gpt2-large": GPTConfig(d_model=1280, n_layer=36, n_head=20),  # 774M
    "gpt2-xl": GPTConfig(d_model=1600, n_layer=48, n_head=25),  # 1,558M
}

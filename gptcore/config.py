"""The shape of a GPT: its architecture and what the data decide, checked when it is made.

The names are those of the library's public interface; `formats` translates them to and from the names in a
Hugging Face ``config.json``.  Presets hold the four published GPT-2 sizes (Radford et al., 2019) and two
small ones that train in minutes on a laptop.

The defaults are GPT-2's.  ``positions``, ``norm``, ``mlp`` and ``tie_weights`` each change one thing about it
and combine freely; all four together are Llama (Touvron et al., 2023; docs/architecture.md).
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from gptcore.ranges import Checked, Context, Number, OneOf, Switch, Whole, relation

CHOICES = {"positions": ("learned", "rotary"), "norm": ("layernorm", "rmsnorm"), "mlp": ("gelu", "swiglu")}

Width = Annotated[int, Whole(1, 65_536)]
Layers = Annotated[int, Whole(1, 1_024)]
Heads = Annotated[int, Whole(1, 1_024)]
Probability = Annotated[float, Number(0, 1, open_high=True)]
Vocabulary = Annotated[int, Whole(1, 16_777_216)]


@dataclass(frozen=True, kw_only=True)
class Architecture(Checked):
    """What one chooses of a model; its vocabulary and context come from the data."""

    d_model: Width
    """Width of the residual stream."""
    n_layer: Layers
    """Number of transformer blocks."""
    n_head: Heads
    """Attention heads per block; d_model must be a multiple of it."""
    dropout: Probability
    """Probability of zeroing an activation in training (embedding, attention weights, residual branches)."""
    bias: Annotated[bool, Switch()] = True
    """Whether linear layers and LayerNorms have a bias, as GPT-2's do; an RMSNorm never has."""
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
    """``gelu``: widened four times, GELU; ``swiglu``: gated by SiLU (Shazeer, 2020), see ``mlp_width``."""

    @relation("d_model", "n_head")
    def _has_whole_heads(self) -> str | None:
        return f"d_model = {self.d_model}: expected a multiple of n_head = {self.n_head}" if self._rest else None

    @relation("d_model", "n_head", "positions")
    def _turns_pairs(self) -> str | None:
        if self._rest or self.positions != "rotary" or self.head_dim % 2 == 0:
            return None
        return f"d_model / n_head = {self.head_dim}: rotary positions turn pairs of channels and need an even number"

    @property
    def _rest(self) -> int:
        return self.d_model % self.n_head

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_head

    @property
    def mlp_width(self) -> int:
        """Channels between the MLP's layers: 4·d_model, or for SwiGLU, whose three matrices should cost what two
        do, 8/3·d_model rounded up to a multiple of 64."""
        return 4 * self.d_model if self.mlp == "gelu" else -(-8 * self.d_model // (3 * 64)) * 64

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

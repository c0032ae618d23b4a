"""Which weights a tuning changes: all of them, those of the last blocks, or low-rank matrices beside frozen ones.

One record says it by two numbers.  ``rank`` above 0 is LoRA (Hu et al., 2021): the model is frozen, and what is
learned of a matrix is a product of two thin ones.  ``blocks`` above 0 is the last so many blocks: with LoRA they alone
get it, without they are trained as they are, with the final norm and a head of its own.  With both at 0, the default,
every weight is trained and nothing here takes part.  A classifier's head is new and so is trained always.

Rejected: a field ``method`` beside the numbers, which could contradict them.

Read by whoever reads parameters, so it needs no PyTorch.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from gptcore.config import GPTConfig, Probability
from gptcore.ranges import Checked, Each, Number, Switch, Whole, relation, wrong

ALL_LINEAR = "all-linear"
_NAME = re.compile(r"[A-Za-z_]\w{0,99}(\.\w{1,100}){0,20}", re.ASCII)


class ModuleName:
    """The rule of a name in ``targets``: which of them there are, only the model's family knows."""

    def problem(self, name: str, value: Any) -> str | None:
        right = isinstance(value, str) and (value == ALL_LINEAR or _NAME.fullmatch(value))
        return None if right else wrong(name, value, str(self))

    def __str__(self) -> str:
        return f"{ALL_LINEAR} or the name of a linear layer, such as q_proj"


@dataclass(frozen=True)
class AdapterConfig(Checked):
    """What is trained; the defaults train everything."""

    rank: Annotated[int, Whole(0, 4_096)] = 0
    """Columns of the thin matrices that LoRA adds; 0: no LoRA."""
    alpha: Annotated[float, Number(0, 1e6, open_low=True)] = 16.0
    """What LoRA adds is scaled by alpha / rank."""
    dropout: Probability = 0.0
    """Probability of zeroing an input of what LoRA adds, in training; the model has its own beside it."""
    targets: Annotated[list[str], Each(ModuleName())] = field(default_factory=lambda: [ALL_LINEAR])
    """The linear layers that LoRA adds to, by the names of the model's family, as `peft` has them: ``q_proj`` in Llama,
    ``c_attn`` or ``mlp.c_proj`` in GPT-2; or ``all-linear``, every one of the blocks."""
    blocks: Annotated[int, Whole(0, 1_024)] = 0
    """Only the last so many blocks are trained; 0: all."""
    keep_activations: Annotated[bool, Switch()] = True
    """With ``blocks``: what the frozen ones compute of a training text is computed once and kept on disk."""

    @relation("targets")
    def _names_all_or_some(self) -> str | None:
        if ALL_LINEAR not in self.targets or len(self.targets) == 1:
            return None
        return wrong("targets", self.targets, f"{ALL_LINEAR} alone, or names without it")

    @property
    def trains_all(self) -> bool:
        """Whether this is plain tuning, of every weight."""
        return self.rank == 0 and self.blocks == 0

    def blocks_of(self, n_layer: int) -> int:
        """How many of a model's blocks are trained."""
        return min(self.blocks, n_layer) or n_layer

    def first_block(self, n_layer: int) -> int:
        """The first of them."""
        return n_layer - self.blocks_of(n_layer)

    def trained(self, config: GPTConfig) -> int:
        """About how many weights of a model's blocks are trained, with every linear layer a target."""
        blocks = self.blocks_of(config.n_layer)
        C, W, gates = config.d_model, config.mlp_width, 2 if config.gated else 1
        matrices = [(C, config.qkv_width), (config.attention_width, C), (C, gates * W), (W, C)]  # (in, out)
        if not self.rank:
            return blocks * sum(n * m for n, m in matrices)
        return blocks * self.rank * (sum(n + m for n, m in matrices) + (1 + gates) * C)  # an A for each of q, k, v

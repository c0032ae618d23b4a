"""LoRA: a frozen matrix W and beside it a product of two thin ones, W + (alpha/rank)·B·A (Hu et al., 2021, eq. 3).

``attach`` freezes a model and adds the pairs; A is drawn Kaiming-uniformly, B is zero, so that the model computes at
first what it did.  ``Adapter.merge`` adds the products to the matrices: what is saved, exported and generated with is a
plain model again.  It is `peft`'s LoRA up to rounding: the same names of targets, the same scale, a dropout mask for
each pair.  Where a family keeps queries, keys and values apart and we have them in one matrix, each has a pair of its
own, for its rows of ours; the family's table says which these are (`formats/table.py`).

What it costs, of the processor's time for a step of full tuning (AdamW, rank 8 on every linear layer, 4·256 tokens):
0.7 for GPT-2 (124M), because the gradients of frozen matrices are not computed, and 0.9 for the default model, whose
products are small.  Tuning the last two blocks takes 0.5 and 0.8.  Frozen weights have neither gradients nor
moments, which are three quarters of what full tuning holds for its weights, and where the products are in bfloat16 no
rounded copy lives until the backward pass (`kernels/low_rank.py`).

The numbers are drawn from a generator of their own, so that they depend on the seed alone; dropout in training
is seeded by the loop at every step (`train.py`), as every other is.

Rejected: computing W + (alpha/rank)·B·A before each product (one call instead of three, but the whole gradient of W
is made and thrown away); `peft` itself as the trainer (it wraps `transformers`' models, and is what the tests compare
with).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.adapters.config import ALL_LINEAR, AdapterConfig
from gptcore.errors import ParameterError
from gptcore.formats.directory import OWN, portable
from gptcore.formats.families import FAMILIES
from gptcore.formats.parts import Part
from gptcore.formats.table import Model, TableFormat
from gptcore.kernels.low_rank import add_, add_low_rank
from gptcore.model import Classifier
from gptcore.ranges import wrong
from gptcore.untrusted import shown


class Target(NamedTuple):
    """A linear layer of the model's family, and which rows of which of ours it is."""

    theirs: str
    """``model.layers.0.self_attn.q_proj``"""
    ours: str
    """``blocks.0.attn.qkv``"""
    part: Part

    @property
    def key(self) -> str:
        """Of its pair within our layer."""
        return self.part.name.replace(" ", "_")


class LoRALinear(nn.Module):
    """A frozen linear layer, and a pair A (rank, in), B (rows, rank) for each of its targets."""

    def __init__(self, base: nn.Linear, rows: dict[str, tuple[int, int]], config: AdapterConfig) -> None:
        super().__init__()
        self.base, self.rows, self.dropout = base, rows, config.dropout
        self.scale = config.alpha / config.rank
        like = base.weight
        self.lora_A = nn.ParameterDict({key: like.new_zeros(config.rank, base.in_features) for key in rows})
        self.lora_B = nn.ParameterDict(
            {key: like.new_zeros(end - start, config.rank) for key, (start, end) in rows.items()}
        )

    def draw(self, generator: torch.Generator) -> None:
        """A as `peft` has it: uniform within ±1/√in."""
        with torch.no_grad():
            for A in self.lora_A.values():
                A.copy_(nn.init.kaiming_uniform_(torch.empty(A.shape), a=math.sqrt(5), generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """x (…, in) → (…, out)"""
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        pairs, rows = list(self.rows), list(self.rows.values())
        thin, wide = self._thin(x, pairs), [self.lora_B[key] for key in pairs]
        if not torch.is_grad_enabled():  # the base may be what a copy for inference has (`inference/weights.py`)
            return add_(self.base(x), thin, wide, rows, self.scale)
        return add_low_rank(x, self.base.weight, self.base.bias, thin, wide, rows, self.scale)

    def _thin(self, x: Tensor, pairs: Iterable[str]) -> Tensor:
        """x·Aᵀ of each pair, side by side (…, pairs·rank)."""
        matrices = [self.lora_A[key] for key in pairs]
        if self.dropout and self.training:  # a mask for each
            return torch.cat([F.linear(F.dropout(x, self.dropout), A) for A in matrices], dim=-1)
        return F.linear(x, torch.cat(matrices))

    def merged(self) -> nn.Linear:
        """The linear layer with the products in its matrix."""
        with torch.no_grad():
            for key, (start, end) in self.rows.items():
                self.base.weight[start:end] += self.scale * (self.lora_B[key] @ self.lora_A[key])
        return self.base


@dataclass(frozen=True)
class Adapter:
    """What is trained of a model; LoRA's pairs stay after they were merged, to be saved (`peft_layout.py`)."""

    model: Model
    config: AdapterConfig
    targets: tuple[Target, ...] = ()
    """Of LoRA; empty without."""
    layers: tuple[LoRALinear, ...] = ()
    """Of each target; those of one matrix of ours share one."""

    def pairs(self) -> Iterator[tuple[Target, Tensor, Tensor]]:
        """Each target with its A (rank, in) and B (rows, rank), the rows as ours are."""
        for target, layer in zip(self.targets, self.layers, strict=True):
            yield target, layer.lora_A[target.key], layer.lora_B[target.key]

    def merge(self) -> None:
        """Make the model a plain one again, which computes the same with what was learned in its matrices."""
        for target, layer in zip(self.targets, self.layers, strict=True):
            if self.model.body.get_submodule(target.ours) is layer:  # until the first of those that share it
                self.model.body.set_submodule(target.ours, layer.merged())
        self.model.requires_grad_(True)
        _freeze_below(self.model, 0)


def attach(model: Model, config: AdapterConfig, seed: int, where: str = "adapter") -> Adapter:
    """Freeze what ``config`` doesn't train, in place, and add LoRA's pairs to what it targets.

    ``where`` is what messages call the configuration.  Raises ``ParameterError`` for blocks and targets that
    the model hasn't.
    """
    targets = check(model, config, where)
    if config.trains_all:
        return Adapter(model, config)
    first = config.first_block(model.config.n_layer)
    model.requires_grad_(False)
    _freeze_below(model, first)
    if isinstance(model, Classifier):
        model.score.requires_grad_(True)
    if config.rank:
        layers = _add_pairs(model, targets, config, torch.Generator().manual_seed(seed))
        return Adapter(model, config, tuple(targets), tuple(layers[t.ours] for t in targets))
    body = model.body
    for block in body.blocks[first:]:
        block.requires_grad_(True)
    body.ln_f.requires_grad_(True)
    if not (
        isinstance(model, Classifier) or body.config.tie_weights
    ):  # a tied head is the embedding, below every block
        body.head.requires_grad_(True)
    return Adapter(model, config)


def check(model: Model, config: AdapterConfig, where: str = "adapter") -> list[Target]:
    """What LoRA would be added to, if it is asked for; raises as ``attach`` does, and changes nothing."""
    n_layer = model.config.n_layer
    if config.blocks > n_layer:
        raise ParameterError(
            wrong(f"{where}.blocks", config.blocks, f"at most {n_layer}, as many as the model has; 0 stands for all")
        )
    if not config.rank:
        return []
    layout = family_of(model)
    return _chosen(list(linear_layers(model, layout)), config, layout, config.first_block(n_layer), where)


def _freeze_below(model: Model, first: int) -> None:
    """Blocks below ``first`` are without dropout from now on, those above as the model's mode says."""
    model.body.frozen_blocks = first
    model.train(model.training)


def _add_pairs(
    model: Model, targets: Iterable[Target], config: AdapterConfig, generator: torch.Generator
) -> dict[str, LoRALinear]:
    """Replace our linear layers that are targets; our name → the new layer."""
    parts: dict[str, list[Target]] = {}
    for target in targets:
        parts.setdefault(target.ours, []).append(target)
    layers = {}
    for ours, within in parts.items():
        base = model.body.get_submodule(ours)
        assert isinstance(base, nn.Linear)
        rows = {target.key: target.part.rows(base.out_features, model.config) for target in within}
        in_order = dict(sorted(rows.items(), key=lambda item: item[1]))
        layers[ours] = LoRALinear(base, in_order, config)
        layers[ours].draw(generator)
        model.body.set_submodule(ours, layers[ours])
    return layers


def family_of(model: Model) -> TableFormat:
    """The family whose names the targets have: the one in which the model is exported, if a table describes it."""
    layout = portable(model.config)
    own: TableFormat = FAMILIES[OWN]
    return layout if isinstance(layout, TableFormat) else own


def linear_layers(model: Model, layout: TableFormat) -> Iterator[Target]:
    """Those of the blocks, in the table's order."""
    for row in layout.rows(model):
        ours = row.ours.removesuffix(".weight")
        if ours != row.ours and ours.startswith("blocks.") and isinstance(model.body.get_submodule(ours), nn.Linear):
            yield Target(row.theirs.removesuffix(".weight"), ours, row.part)


def _chosen(known: list[Target], config: AdapterConfig, layout: TableFormat, first: int, where: str) -> list[Target]:
    """The targets, each given name matched as `peft` does: whole, or at the end after a dot."""
    in_blocks = [target for target in known if int(target.ours.split(".")[1]) >= first]
    if config.targets == [ALL_LINEAR]:
        return in_blocks
    if unknown := [name for name in config.targets if not any(is_called(target, name) for target in known)]:
        raise ParameterError(
            f"{where}.targets: expected {ALL_LINEAR}, or some of {', '.join(leaves(known))}, the linear layers of a "
            f"{layout.title} model; found {', '.join(map(shown, unknown))}"
        )
    chosen = [target for target in in_blocks if any(is_called(target, name) for name in config.targets)]
    if not chosen:
        raise ParameterError(f"{where}.targets: expected some in the last {config.blocks} block(s), found none of them")
    return chosen


def is_called(target: Target, name: str) -> bool:
    return target.theirs == name or target.theirs.endswith(f".{name}")


def leaves(targets: Iterable[Target]) -> list[str]:
    """Their names without the blocks', each once."""
    return sorted({target.theirs.rpartition(".")[2] for target in targets})

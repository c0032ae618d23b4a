"""What is measured: model shapes and amounts of work, the same for every library.

A workload is a value without behaviour, so that a worker process can be told what to do in one line of
JSON.  This file needs no PyTorch: the process that only compares stays small.

Operations of a training step follow the usual estimate (Chowdhery et al., 2022, appendix B):
6·N + 12·n_layer·d_model·T per token, N being the parameters that take part in matrix products (blocks and
head; no biases, norms and positions).  It counts attention over all T positions; a kernel that skips the
masked half does less than the formula says, by 4 % of the whole for the 124M model at T = 512.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

GPT2: dict[str, Any] = {"vocab_size": 50257, "d_model": 768, "n_layer": 12, "n_head": 12, "context_length": 1024}
SMALL: dict[str, Any] = {"vocab_size": 50257, "d_model": 384, "n_layer": 6, "n_head": 6, "context_length": 256}
DEFAULT: dict[str, Any] = {"vocab_size": 4096, "d_model": 256, "n_layer": 3, "n_head": 4, "context_length": 256}
"""The model of the default pipeline."""
SMOLLM2: dict[str, Any] = {"vocab_size": 49152, "d_model": 576, "n_layer": 30, "n_head": 9, "context_length": 2048}
LLAMA: dict[str, Any] = {
    "positions": "rotary",
    "rope_theta": 1e5,
    "norm": "rmsnorm",
    "mlp": "swiglu",
    "mlp_hidden": 1536,
    "n_kv_head": 3,
    "bias": False,
}
"""What makes of that shape SmolLM2's."""
LORA: dict[str, Any] = {"rank": 16, "alpha": 32}
"""On every linear layer of the blocks."""


@dataclass(frozen=True)
class Workload:
    """One kind of work on one shape of model."""

    task: str
    """``train``: an optimizer step; ``decode``: greedy text; ``prefill``: a prompt's first new token;
    ``command``: a whole process."""
    vocab_size: int
    d_model: int
    n_layer: int
    n_head: int
    context_length: int
    batch: int
    """Rows."""
    tokens: int
    """Tokens of a row: of the training batch, or of the prompt."""
    new_tokens: int = 0
    """Tokens to generate for each row."""
    optimizer: str = "adamw"
    """Of our own training steps; peers always have AdamW."""
    variant: dict[str, Any] = field(default_factory=dict)
    """Further fields of our ``GPTConfig``; {}: GPT-2."""

    @property
    def matrix_parameters(self) -> int:
        """Parameters that take part in matrix products: the blocks' (of GPT-2 twelve d_model² each), and the head."""
        C, heads = self.d_model, self.variant.get("n_kv_head") or self.n_head
        attention = 2 * C * C + 2 * C * (C * heads // self.n_head)
        width = self.variant.get("mlp_hidden")
        mlp = 3 * C * width if width else 8 * C * C  # a gated one without a width of its own has as many
        return self.n_layer * (attention + mlp) + self.vocab_size * C

    @property
    def parameters(self) -> int:
        """All parameters of a GPT-2 of this shape: matrices, biases, norms, positions; the head is the embedding.

        Of another family they would be fewer.
        """
        beside = self.n_layer * 13 * self.d_model + 2 * self.d_model + self.context_length * self.d_model
        return self.matrix_parameters + beside

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of training on one token, forward and backward."""
        return 6 * self.matrix_parameters + 12 * self.n_layer * self.d_model * self.tokens

    def as_json(self) -> str:
        return json.dumps(asdict(self))


WORKLOADS = {
    "train-30m": Workload("train", **SMALL, batch=8, tokens=256),
    "train-124m": Workload("train", **GPT2, batch=4, tokens=512),
    "decode-1": Workload("decode", **GPT2, batch=1, tokens=64, new_tokens=128),
    "decode-16": Workload("decode", **GPT2, batch=16, tokens=64, new_tokens=128),
    "decode-int8": Workload("decode", **GPT2, batch=1, tokens=64, new_tokens=128),
    "prefill-512": Workload("prefill", **GPT2, batch=1, tokens=512, new_tokens=1),
    "tune-135m": Workload("train", **SMOLLM2, batch=16, tokens=128, variant=LLAMA),
    "decode-135m": Workload("decode", **SMOLLM2, batch=1, tokens=64, new_tokens=128, variant=LLAMA),
    "first-token": Workload("command", **DEFAULT, batch=1, tokens=8, new_tokens=1),
}


def workload(text: str) -> Workload:
    """A workload by name, or from JSON."""
    if text in WORKLOADS:
        return WORKLOADS[text]
    if not text.startswith("{"):
        raise ValueError(f"workload {text!r}: expected one of {', '.join(WORKLOADS)}, or JSON")
    return Workload(**json.loads(text))


def shrunk(work: Workload) -> Workload:
    """The same kind of work in a hundredth of the time, to try the machinery; its numbers mean nothing."""
    small: dict[str, Any] = {"vocab_size": 1000, "d_model": 64, "n_layer": 2, "n_head": 2}
    if work.variant:
        small["variant"] = work.variant | {"mlp_hidden": 128, "n_kv_head": 1}
    return replace(work, **small, tokens=min(work.tokens, 64), new_tokens=min(work.new_tokens, 8))

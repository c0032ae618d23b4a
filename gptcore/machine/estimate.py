"""What a configuration will cost here, before it is run: tokens/s, time and memory.

A training step is a sum of six terms, each an amount of work over a speed that `probe.py` measured:

    products     6·N FLOPs per token over the GEMM peak, N the weights that take part in products (blocks, head)
    attention    12·n_layer·d_model·T per token, less what `causal_attention.py` skips, at ATTENTION_SHARE of the peak
    elementwise  ELEMENT_BYTES per token, layer and channel over the bandwidth: norms, GELU, casts, residuals
    loss         LOGIT_BYTES per token and vocabulary entry over the bandwidth: softmax and gradient
    optimizer    UPDATE_BYTES per parameter over the bandwidth; Muon's Newton-Schulz products over the peak
    calls        LAYER_SECONDS per layer: PyTorch's own time for each of many small calls

The constants were fitted to twelve measured configurations (0.4M to 124M parameters, AdamW and Muon, fp32
and bfloat16, vocabularies of 600 to 50,257) on the reference machine: two cores with AVX-512 BF16, 1,000
GFLOP/s in bfloat16, 240 in fp32, 56 GB/s.  They meet eleven within 15 %, among them 30M parameters at 8·256 tokens
(67 % of the peak), 124M at 4·512 (68 %) and the default model with Muon (35 %).  The twelfth has dropout, which
is not counted and costs a quarter at 0.1.  Peak memory came within 12 % for the same eleven.

Rejected: a single share of the peak, which is off by a factor of two between these three models; a trial run
of a few steps, which says it exactly but needs the memory that may be missing.

Not covered: a GPU, gradient accumulation, evaluation and checkpoints between the steps.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gptcore.config import GPTConfig
from gptcore.kernels.limits import BLOCK, GROUP_LOGITS, KEPT

if TYPE_CHECKING:  # a machine is handed in; whoever asks for memory alone needs none, and no PyTorch
    from gptcore.machine.probe import Machine

ATTENTION_SHARE = 0.3
"""Of the GEMM peak that attention reaches, softmax included: its products are small."""
ELEMENT_BYTES = 1150
LOGIT_BYTES = 44
UPDATE_BYTES = 40
"""AdamW reads weight, gradient and two moments and writes three of them; clipping reads and writes gradients."""
LAYER_SECONDS = 7e-4
NEWTON_SCHULZ_STEPS = 5
"""Of ``torch.optim.Muon``."""

PROCESS_BYTES = 340_000_000
"""A process that has imported PyTorch and trained something tiny."""
SPARE = 0.15
"""Share of memory beside all counted tensors: temporaries, and gaps that the allocator leaves."""

DECODE_SHARE = {"float32": 0.60, "bfloat16": 0.67, "int8": 0.52}
"""Of the bandwidth at which matrices of one row stream (124M parameters, laid out by `inference/weights.py`)."""
DECODE_LAYER_SECONDS = 1e-4
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Training:
    """The cost of training; seconds and bytes by what they are for."""

    tokens_per_step: int
    flops_per_token: float
    """Forward and backward, attention's skipped blocks not counted, the optimizer's work neither."""
    step_parts: dict[str, float]
    """Term → seconds of one step."""
    memory_parts: dict[str, float]
    """Kind of tensor → bytes at the peak."""
    steps: int
    peak_share: float
    """FLOPs done per second over the GEMM peak."""

    @property
    def step_seconds(self) -> float:
        return sum(self.step_parts.values())

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_step / self.step_seconds

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return self.steps * self.step_seconds

    @property
    def memory(self) -> float:
        """Bytes of the whole process at its peak."""
        return sum(self.memory_parts.values())


class Trained(NamedTuple):
    """The part of a model that a tuning trains."""

    weights: int
    blocks: int
    """The last so many, in which all of them lie."""


@dataclass(frozen=True)
class Decoding:
    """The cost of generating one text, one token at a time."""

    dtype: str
    weight_bytes: int
    """Read for every token."""
    tokens_per_second: float
    """With half of the context full."""
    memory: float
    """Bytes of ``python -m gptcore generate`` at its peak, which is while it loads."""


def training(
    config: GPTConfig,
    machine: "Machine",
    batch_size: int = 8,
    steps: int = 1000,
    optimizer: str = "adamw",
    dtype: str = "auto",
) -> Training:
    """Estimate for ``steps`` steps of ``batch_size`` rows of ``context_length`` tokens.

    Raises ``ValueError`` for what `train` would refuse.
    """
    problems = [f"{k} = {v}: expected at least 1" for k, v in (("batch_size", batch_size), ("steps", steps)) if v < 1]
    if optimizer not in ("adamw", "muon"):
        problems.append(f"optimizer = {optimizer!r}: expected adamw or muon")
    if dtype not in ("auto", "float32", "bfloat16"):
        problems.append(f"dtype = {dtype!r}: expected auto, float32 or bfloat16")
    if problems:
        raise ValueError("; ".join(problems))
    tokens, peak = batch_size * config.context_length, machine.peak(dtype)
    parts = _step_parts(config, machine, tokens, optimizer, peak)
    size = 2 if machine.uses_bfloat16(dtype) else 4
    flops = flops_per_token(config)
    share = flops * tokens / sum(parts.values()) / peak
    return Training(tokens, flops, parts, memory_parts(config, batch_size, optimizer, size), steps, share)


def decoding(config: GPTConfig, machine: "Machine", dtype: str = "float32") -> Decoding:
    """Estimate for generating with matrices in ``dtype`` (float32, bfloat16, int8), one text at a time."""
    if dtype not in DECODE_SHARE:
        raise ValueError(f"dtype = {dtype!r}: expected one of {', '.join(DECODE_SHARE)}")
    matrices = matrix_parameters(config)
    cache = (
        2 * config.n_layer * config.kv_heads * config.head_dim * config.context_length * 4
    )  # keys and values in float32
    weights = matrices * WEIGHT_BYTES[dtype]
    seconds = weights / (DECODE_SHARE[dtype] * machine.bandwidth)
    seconds += cache / 2 / (DECODE_SHARE["float32"] * machine.bandwidth) + config.n_layer * DECODE_LAYER_SECONDS
    loaded = 4 * parameters(config)
    positions = config.context_length if config.positions == "learned" else 0
    copy = weights + 4 * (config.vocab_size + positions) * config.d_model
    if dtype == "int8":  # the largest matrix in float32, three times, while it is rounded
        copy += 3 * 4 * config.vocab_size * config.d_model
    memory = PROCESS_BYTES + (1 + SPARE) * (loaded + max(loaded, copy)) + cache
    return Decoding(dtype, weights, 1 / seconds, memory)


def flops_per_token(config: GPTConfig) -> float:
    """Floating-point operations of training on one token, forward and backward.

    6·N + 12·n_layer·d_model·T (Chowdhery et al., 2022, appendix B), attention by the share of its T × T
    scores that blocks of queries compute: (1 + 1/blocks)/2 where BLOCK divides T.
    """
    return 6 * matrix_parameters(config) + _attention_flops(config)


def state_bytes(config: GPTConfig, optimizer: str, trained: Trained | None = None) -> int:
    """Of a saved training state: the trained weights and the optimizer's moments."""
    if trained is not None:
        return 3 * 4 * trained.weights
    return 4 * (parameters(config) + _moments(config, optimizer))


def parameters(config: GPTConfig) -> int:
    """All weights, a shared matrix counted once; the model's own ``n_params`` without building it."""
    biases = config.qkv_width * config.qkv_bias + config.d_model * config.attention_proj_bias
    biases += (_mlp_rows(config) + config.d_model) * config.bias
    heads = 2 * config.head_dim * config.qk_norm
    norm = config.d_model * (2 if config.norm == "layernorm" and config.bias else 1)
    rows = config.vocab_size * (1 if config.tie_weights else 2)
    rows += config.context_length if config.positions == "learned" else 0
    layers = _sum(_block_matrices(config)) + config.n_layer * (biases + heads + 2 * norm)
    return layers + norm + rows * config.d_model


def matrix_parameters(config: GPTConfig) -> int:
    """Weights that take part in matrix products: the blocks' matrices and the head."""
    return _sum(_block_matrices(config)) + config.vocab_size * config.d_model


def _step_parts(config: GPTConfig, machine: "Machine", tokens: int, optimizer: str, peak: float) -> dict[str, float]:
    products = 6 * matrix_parameters(config) * tokens / peak
    update = UPDATE_BYTES * parameters(config) / machine.bandwidth
    if optimizer == "muon":
        rate = machine.bfloat16_flops if machine.packs_bfloat16 else machine.float32_flops
        update += _newton_schulz_flops(config) / rate
    return {
        "products": products,
        "attention": _attention_flops(config) * tokens / (ATTENTION_SHARE * peak),
        "elementwise": ELEMENT_BYTES * tokens * config.n_layer * config.d_model / machine.bandwidth,
        "loss": LOGIT_BYTES * tokens * config.vocab_size / machine.bandwidth,
        "optimizer": update,
        "calls": LAYER_SECONDS * config.n_layer,
    }


def memory_parts(
    config: GPTConfig, batch_size: int, optimizer: str, size: int, trained: Trained | None = None
) -> dict[str, float]:
    """Kind of tensor → bytes at the end of a training step; ``size`` is that of a number in the products' format.

    With ``trained``, so many weights of the last so many blocks are trained and the others frozen; each weight is then
    taken to have two moments, and frozen blocks keep no activations.
    """
    weights, matrices = parameters(config), _sum(_block_matrices(config))
    blocks = config.n_layer if trained is None else trained.blocks
    head = config.vocab_size * config.d_model
    tokens, T = batch_size * config.context_length, config.context_length
    parts = {
        "weights": 4.0 * weights,
        "gradients": 4.0 * (weights if trained is None else trained.weights),
        "optimizer": 4.0 * (_moments(config, optimizer) if trained is None else 2 * trained.weights),
        "copies": size * (2.0 * head + (matrices if size == 2 else 0)),  # the head padded, its gradient; autocast
        "activations": float(tokens * blocks * _kept_bytes(config, size)),
        "logits": float(size * min(tokens * config.vocab_size, max(GROUP_LOGITS, config.vocab_size))),
    }
    scores = batch_size * config.n_head * T * T
    if scores <= KEPT:
        parts["activations"] += size * blocks * scores * _causal_share(T)
    spare = SPARE * sum(parts.values())
    return parts | {"process and spare": PROCESS_BYTES + spare}


def _moments(config: GPTConfig, optimizer: str) -> int:
    """Numbers that the optimizer keeps: two a weight, of Muon's matrices one."""
    return 2 * parameters(config) - (_sum(_block_matrices(config)) if optimizer == "muon" else 0)


def _kept_bytes(config: GPTConfig, size: int) -> int:
    """Kept for the backward pass, per token and layer.

    Both norms' inputs in float32; in the products' format both norms' outputs, queries, keys, values,
    attention's output, and of the MLP what goes into and comes out of its activation (gate, up and their product where
    it is gated).
    """
    attention = 2 * config.d_model + config.qkv_width + config.attention_width
    return 2 * 4 * config.d_model + size * (attention + (3 if config.gated else 2) * config.mlp_width)


def _attention_flops(config: GPTConfig) -> float:
    T = config.context_length
    return 12 * config.n_layer * config.attention_width * T * _causal_share(T)


def _causal_share(T: int) -> float:
    """Share of the T × T scores that are computed: of each block of queries, up to its own end."""
    ends = [min(start + BLOCK, T) for start in range(0, T, BLOCK)]
    return sum((end - start) * end for start, end in zip(range(0, T, BLOCK), ends, strict=True)) / T**2


def _newton_schulz_flops(config: GPTConfig) -> float:
    """Per step, all matrices: X·Xᵀ and B·X of n × m, and a square product, n being the smaller side."""
    sides = [sorted(shape) for shape in _block_matrices(config)]
    return NEWTON_SCHULZ_STEPS * sum(4 * n * n * m + 2 * n**3 for n, m in sides)


def _block_matrices(config: GPTConfig) -> list[tuple[int, int]]:
    """(out, in) of each: queries, keys and values; attention's projection; the MLP's two."""
    C = config.d_model
    attention = [(config.qkv_width, C), (C, config.attention_width)]
    return [*attention, (_mlp_rows(config), C), (C, config.mlp_width)] * config.n_layer


def _mlp_rows(config: GPTConfig) -> int:
    """Of the MLP's first matrix, which makes the gate too, if there is one."""
    return (2 if config.gated else 1) * config.mlp_width


def _sum(shapes: list[tuple[int, int]]) -> int:
    return sum(rows * columns for rows, columns in shapes)

"""What the machine can do at most: matrix products at full speed, and one pass over a model's weights.

Both run beside the library in the same rounds, so that a share of the limit is a paired ratio as well.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.candidates.ours import config_of, in_format
from benchmarks.worker import Unit
from benchmarks.workloads import Workload
from gptcore import runtime
from gptcore.model import GPT

SIZES = (1024, 2048, 4096)
"""Rows and columns of the square products tried."""
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def build(work: Workload, setting: str) -> Unit:
    """Settings: ``gemm`` for training; for text ``stream-FORMAT`` and ``laid-out-FORMAT``.

    ``stream`` multiplies with ``F.linear`` by the matrices as they lie; ``laid-out`` does it as our
    ``for_inference`` does, so that what remains of a token is everything but its matrices.
    """
    runtime.configure()
    if setting == "gemm":
        return _products(work)
    kind, _, form = setting.rpartition("-")
    return _stream(work, form, laid_out=kind == "laid-out")


def _products(work: Workload) -> Unit:
    """The best of several square products, in bf16 where that is fast; counted in tokens of training at that speed."""
    form = torch.bfloat16 if runtime.has_fast_bfloat16() else torch.float32
    pairs = [(torch.randn(n, n).to(form), torch.randn(n, n).to(form)) for n in SIZES]

    def unit() -> float:
        started = time.perf_counter()
        best = max(_rate(a, b) for a, b in pairs)  # operations/s
        return best * (time.perf_counter() - started) / work.flops_per_token

    return unit


def _rate(a: Tensor, b: Tensor, operations: float = 1e11) -> float:
    """Operations/s of a @ b, sustained over about ``operations``."""
    each = 2 * len(a) ** 3
    repeats = max(1, round(operations / each))
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    return repeats * each / (time.perf_counter() - started)


def _stream(work: Workload, form: str, *, laid_out: bool) -> Unit:
    """Every weight matrix times one vector, as many times as a text has new tokens."""
    plain = GPT(config_of(work)).eval()
    linears = {name: m for name, m in plain.named_modules() if isinstance(m, nn.Linear)}
    matrices: list[tuple[Callable[[Tensor], Tensor], Tensor]]
    if laid_out:
        ours = in_format(plain, form)
        matrices = [(ours.get_submodule(name), torch.randn(1, m.in_features)) for name, m in linears.items()]
    else:
        bare = [m.to(FORMATS[form]).weight for m in linears.values()]
        matrices = [(partial(F.linear, weight=w), torch.randn(1, w.shape[1], dtype=w.dtype)) for w in bare]

    @torch.inference_mode()
    def unit() -> float:
        for _ in range(work.new_tokens):
            for times, vector in matrices:
                times(vector)
        return work.new_tokens

    return unit

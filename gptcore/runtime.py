"""Every process-wide switch in one place: threads, allocator, number format, determinism.

``configure()`` is called once at the start of a program that must give the same bits.  It fixes the number of threads
(other counts give other bits), keeps large buffers from going back to the kernel after every step (where page
faults are dear they cost a training step more than its arithmetic: 1,200 → 2,200 tokens/s was seen for a
model of 30M parameters), and on a GPU asks for deterministic kernels.
"""

import contextlib
import ctypes
import os
from functools import cache
from typing import Any

import torch

from gptcore import POLICY_IN_FORCE
from gptcore.torch_internals import cpu_instructions

_MALLOPT = {"M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 64 * 2**20), "M_MMAP_MAX": (-4, 0)}
"""glibc's ``mallopt``, name → (number in malloc.h, value): give nothing back, grow in large steps, map nothing."""


def configure() -> None:
    """Set threads (``GPTCORE_THREADS``, else all physical cores), allocator and determinism."""
    torch.set_num_threads(threads())
    keep_large_buffers()
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def settings() -> dict[str, Any]:
    """What is set in this process, for the record of a run."""
    kept = {name: value for name, (_, value) in _MALLOPT.items()} if keep_large_buffers() else "left alone"
    policy = (os.environ.get(name, "").lower() for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"))
    waits = " ".join(filter(None, policy)) if POLICY_IN_FORCE else "PyTorch's default"
    return {"threads": threads(), "allocator": kept, "wait_policy": waits, "bfloat16": has_fast_bfloat16()}


def threads() -> int:
    """The thread count in force: ``GPTCORE_THREADS`` or PyTorch's own choice, the physical cores."""
    chosen = os.environ.get("GPTCORE_THREADS", "")
    return int(chosen) if chosen.isdigit() and int(chosen) > 0 else torch.get_num_threads()


def has_fast_bfloat16(device: str = "cpu") -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 on this kind of device."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    return not {"AVX-512 BF16", "AMX"}.isdisjoint(cpu_instructions())


def autocast(dtype: str = "auto", device: str = "cpu") -> contextlib.AbstractContextManager[Any]:
    """Matrix products in bfloat16 (``auto``: where that is fast), sums and norms in float32.

    ``device`` is where the model is: its parameters' ``device.type``.
    """
    use_bfloat16 = dtype == "bfloat16" or (dtype == "auto" and has_fast_bfloat16(device))
    return torch.autocast(device, dtype=torch.bfloat16) if use_bfloat16 else contextlib.nullcontext()


@cache
def keep_large_buffers() -> bool:
    """Tell glibc to keep freed buffers for the next step; other C libraries have no such switch, and are left alone.

    ``configure`` and ``train`` call it, so that nobody can forget it; returns whether it took.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    accepted = [mallopt(number, value) for number, value in _MALLOPT.values()]
    return all(accepted)

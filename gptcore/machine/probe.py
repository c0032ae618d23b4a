"""What the machine offers: cores, instruction sets, memory, and two measured speeds.

``probe`` takes about a second and a half.  The speed of matrix products is the best of several square ones in
each number format; memory bandwidth is that of adding up 256 MB, touched before, with all threads: what reads
weights far larger than the caches can't be faster.  Both are lower while something else runs, as training will be.

Rejected: tables of processors' nominal speeds, which know neither the virtual machine nor its neighbours.
"""

import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gptcore import runtime
from gptcore.machine.identity import machine_class
from gptcore.memory import memory, system_text
from gptcore.torch_internals import can_pack, cpu_instructions

SIZE = 2048
"""Rows and columns of the products that are timed; at 1,024 the reference machine is within 5 %."""
SMALL_SIZE = 512
"""The same where a number format is so slow that the larger product would take longer than a probe may."""
READ_BYTES = 256 * 2**20
"""Read for the bandwidth: eight times the last-level cache of the reference machine."""
PROBE_SECONDS = 0.3
"""Time of each of the three probes."""


@dataclass(frozen=True)
class Machine:
    """Facts about this machine and this process."""

    processor: str
    physical_cores: int | None
    """None where the system doesn't tell."""
    logical_cores: int
    """That this process may run on."""
    threads: int
    """In force: ``GPTCORE_THREADS`` or PyTorch's choice."""
    instructions: tuple[str, ...]
    kernels: str
    """The instruction set that PyTorch's own kernels were chosen for."""
    bfloat16: bool
    """Whether ``dtype: auto`` is bfloat16 here."""
    memory: int
    """Bytes in all; 0 where the system doesn't tell."""
    memory_available: int
    """Bytes to be had without swapping, no more than the container's limit; 0 where the system doesn't tell."""
    float32_flops: float
    """FLOP/s of square matrix products."""
    bfloat16_flops: float
    bandwidth: float
    """Bytes/s of reading memory."""
    keeps_buffers: bool
    """Whether the allocator keeps large buffers from step to step."""
    gpus: tuple[str, ...]
    machine_class: str
    """Equal on machines that compute the same bits."""
    packs_bfloat16: bool = True
    """Whether oneDNN multiplies in bfloat16, if only by emulating it: then Muon does (`muon.py`)."""

    def peak(self, dtype: str = "auto") -> float:
        """FLOP/s of matrix products in ``dtype`` (auto, float32, bfloat16)."""
        return self.bfloat16_flops if self.uses_bfloat16(dtype) else self.float32_flops

    def uses_bfloat16(self, dtype: str) -> bool:
        """Whether training with this ``dtype`` multiplies in bfloat16."""
        return dtype == "bfloat16" or (dtype == "auto" and self.bfloat16)


def probe(seconds: float = PROBE_SECONDS) -> Machine:
    """Look and measure, ``seconds`` for each of three probes (each runs twice at least)."""
    total, available = memory()
    return Machine(
        processor=_processor(),
        physical_cores=_physical_cores(),
        logical_cores=_logical_cores(),
        threads=torch.get_num_threads(),
        instructions=cpu_instructions(),
        kernels=torch.backends.cpu.get_cpu_capability(),
        bfloat16=runtime.has_fast_bfloat16(),
        memory=total,
        memory_available=available,
        float32_flops=_product_rate(torch.float32, seconds),
        bfloat16_flops=_product_rate(torch.bfloat16, seconds),
        bandwidth=_read_rate(seconds),
        keeps_buffers=runtime.settings()["allocator"] != "left alone",
        gpus=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        machine_class=machine_class(),
        packs_bfloat16=can_pack(torch.bfloat16),
    )


def _product_rate(dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of the fastest of several square products."""
    small = 2 * SMALL_SIZE**3 / _fastest(_product(SMALL_SIZE, dtype), 0.0)
    if 2 * SIZE**3 / small > max(seconds, 0.1) * 4:  # emulated: one large product would take too long
        return small
    return 2 * SIZE**3 / _fastest(_product(SIZE, dtype), seconds)


def _product(n: int, dtype: torch.dtype) -> Callable[[], Any]:
    a, b = torch.ones(n, n, dtype=dtype), torch.empty(n, n, dtype=dtype)
    return lambda: torch.mm(a, a, out=b)


def _read_rate(seconds: float) -> float:
    """Bytes/s of adding up numbers that are in no cache."""
    numbers = torch.ones(READ_BYTES // 4)
    return READ_BYTES / _fastest(numbers.sum, seconds)


def _fastest(work: Callable[[], Any], seconds: float) -> float:
    """Least time of one call, of those that fit into ``seconds`` and no fewer than two; the first is not counted."""
    work()
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", system_text("/proc/cpuinfo"), re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def _logical_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _physical_cores() -> int | None:
    """Distinct cores in ``/proc/cpuinfo``, each listed once for every thread that it runs."""
    blocks = system_text("/proc/cpuinfo").split("\n\n")
    cores = {tuple(re.findall(r"^(?:physical id|core id)\s*:\s*(\d+)$", block, re.MULTILINE)) for block in blocks}
    return len(cores - {()}) or None

"""Every process-wide switch in one place: threads, allocator, number format, determinism.

``configure()`` is called once at the start of a program that computes.  It fixes the number of threads
(other counts give other bits), keeps large buffers from going back to the kernel after every step (where page
faults are dear they cost a training step more than its arithmetic: 1,200 → 2,200 tokens/s was seen for a
model of 30M parameters), and on a GPU asks for deterministic kernels.

``machine_class()`` names what the arithmetic does rather than the processor: a hash of a few training
steps of a fixed small model in the number formats in use, with the versions of Python and PyTorch and the
number of threads.  Two machines of one class give equal bytes.
"""

import contextlib
import ctypes
import hashlib
import os
import platform
from functools import cache
from typing import Any

import torch

_MALLOPT = {"M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 64 * 2**20), "M_MMAP_MAX": (-4, 0)}
"""glibc's ``mallopt``, name → (number in malloc.h, value): give nothing back, grow in large steps, map nothing."""


def configure() -> None:
    """Set threads (``GPTCORE_THREADS``, else all physical cores), allocator and determinism."""
    torch.set_num_threads(threads())
    _keep_large_buffers()
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def settings() -> dict[str, Any]:
    """What ``configure`` has set, for the record of a run."""
    kept = {name: value for name, (_, value) in _MALLOPT.items()} if _keep_large_buffers() else "left alone"
    return {"threads": threads(), "allocator": kept, "bfloat16": has_fast_bfloat16()}


def threads() -> int:
    """The thread count in force: ``GPTCORE_THREADS`` or PyTorch's own choice, the physical cores."""
    chosen = os.environ.get("GPTCORE_THREADS", "")
    return int(chosen) if chosen.isdigit() and int(chosen) > 0 else torch.get_num_threads()


def has_fast_bfloat16(device: str = "cpu") -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 on this kind of device."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    cpu: Any = torch.cpu
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(cpu, name)() for name in probes if hasattr(cpu, name))


def autocast(dtype: str = "auto", device: str = "cpu") -> contextlib.AbstractContextManager[Any]:
    """Matrix products in bfloat16 (``auto``: where that is fast), sums and norms in float32.

    ``device`` is where the model is: its parameters' ``device.type``.
    """
    use_bfloat16 = dtype == "bfloat16" or (dtype == "auto" and has_fast_bfloat16(device))
    return torch.autocast(device, dtype=torch.bfloat16) if use_bfloat16 else contextlib.nullcontext()


@cache
def machine_class() -> str:
    """16 hexadecimal digits: equal on machines that compute the same bits."""
    setting = f"python {platform.python_version()} torch {torch.__version__.split('+')[0]} threads {threads()}"
    return hashlib.sha256(f"{setting} {_probe('float32')} {_probe('auto')}".encode()).hexdigest()[:16]


def _probe(dtype: str) -> str:
    """Hash of the weights after three training steps of a small fixed model."""
    from gptcore.config import GPTConfig
    from gptcore.model import GPT
    from gptcore.train import TrainConfig, train

    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=512, context_length=64, d_model=128, n_layer=2, n_head=4, dropout=0.1))
    ids = torch.randint(512, (3, 8, 65))
    config = TrainConfig(max_steps=3, optimizer="muon", learning_rate=1e-3, dtype=dtype)
    for _ in train(model, [(x[:, :-1], x[:, 1:]) for x in ids], config):
        pass
    torch.set_rng_state(state)
    return state_hash(model)


def state_hash(model: torch.nn.Module) -> str:
    """sha256 over names and bytes of all parameters: equal exactly if every bit is."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@cache
def _keep_large_buffers() -> bool:
    """Tell glibc to keep freed buffers for the next step; other C libraries have no such switch, and are left alone."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    accepted = [mallopt(number, value) for number, value in _MALLOPT.values()]
    return all(accepted)

"""What the pipeline's commands set for the stages' allocator: fewer gaps between large buffers."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.orchestration import dvc_program
from pipeline.project import LEAN

ROOT = Path(__file__).resolve().parents[2]

GAPS = """
import ctypes, torch
from gptcore import runtime
from gptcore.config import GPTConfig
from gptcore.model import GPT

class Info(ctypes.Structure):  # struct mallinfo2 of malloc.h
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

runtime.configure()
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
gated = {"norm": "rmsnorm", "mlp": "swiglu", "positions": "rotary"}
model = GPT(GPTConfig(vocab_size=64, context_length=256, d_model=128, n_layer=12, n_head=4, **gated))
for _ in range(2):
    loss = model(torch.zeros(8, 256, dtype=torch.long)).logsumexp(-1).mean()
    found = libc.mallinfo2()
    loss.backward()
print(found.fordblks / found.uordblks)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc from 2.33 on tells its gaps")
def test_a_stage_has_few_gaps_between_its_large_buffers() -> None:
    """At the end of a forward pass: memory that is free but too short for the next buffer, of what is in use.

    0.63 with glibc 2.36; 0.95 as it comes, 0.79 and 1.26 without one of its two caches.
    """
    environment = {**os.environ, **LEAN}
    done = subprocess.run([sys.executable, "-c", GAPS], env=environment, capture_output=True, check=True)
    assert float(done.stdout) < 0.75


@pytest.mark.parametrize("chosen", [None, "glibc.malloc.arena_max=2"], ids=["nobody has chosen", "somebody has"])
def test_dvc_hands_it_to_the_stages(chosen: str | None, tmp_path: Path) -> None:
    others = {name: value for name, value in os.environ.items() if name not in LEAN}
    environment = others | {"PYTHONPATH": str(ROOT)} | ({"GLIBC_TUNABLES": chosen} if chosen else {})
    for arguments in (
        ["init", "-q", "--no-scm"],
        ["stage", "add", "-q", "-n", "said", "-o", "said", "echo $GLIBC_TUNABLES > said"],
        ["repro", "-q"],
    ):
        subprocess.run([*dvc_program.COMMAND, *arguments], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "said").read_text().strip() == (chosen or LEAN["GLIBC_TUNABLES"])

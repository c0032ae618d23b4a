"""What a result holds for: processor, memory, system, versions."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

import psutil

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "bf16", "sve")
LOCKED = ("torch", "transformers", "peft", "numpy", "tiktoken")
PEERS = ("litgpt", "llms-from-scratch", "xllamacpp")


def describe() -> dict[str, str]:
    """The machine in words."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    flags = set(_field(text, "flags|Features").split())
    return {
        "processor": _field(text, "model name") or platform.processor() or platform.machine(),
        "instructions": " ".join(name for name in INSTRUCTIONS if name in flags) or "unknown",
        "cores": str(psutil.cpu_count(logical=False) or os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(peers: Path) -> dict[str, str]:
    """Version of Python and of every library that is measured or computes."""
    beside = {d.name.lower(): d.version for d in metadata.distributions(path=[str(peers)])}
    found = {"python": platform.python_version()}
    for name in LOCKED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found | {name: beside.get(name, "missing") for name in PEERS}


def _field(text: str, name: str) -> str:
    match = re.search(rf"^(?:{name})\s*:\s*(.*)$", text, re.MULTILINE)
    return match.group(1).strip() if match else ""

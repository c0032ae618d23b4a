"""How much memory this process may have: the machine's, or less where a control group limits it.

Costs a few reads of /proc, needs no PyTorch.  A container's limit stands in a file of its control group or of one above
it, in version 2 (``memory.max``) or 1 (``memory.limit_in_bytes``, a number near 2⁶³ where there is none).
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS = "/sys/fs/cgroup"


def memory() -> tuple[int, int]:
    """Bytes in all and bytes to be had without swapping; both 0 where the system doesn't tell."""
    sizes = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", system_text("/proc/meminfo"), re.MULTILINE))
    total, available = (int(sizes.get(name, 0)) * 1024 for name in ("MemTotal", "MemAvailable"))
    if not total and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [int(text) for path in _limits() if (text := system_text(path).strip()).isdigit()]
    bound = min([total, *limits])
    return bound, min(available, bound)


def system_text(path: str) -> str:
    """A file of the system, or nothing where the system has none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _limits() -> Iterator[str]:
    """The files that may limit this process: of its own groups and of all above them."""
    yield f"{GROUPS}/memory.max"
    for line in system_text("/proc/self/cgroup").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        above = [str(path).rstrip("/") for path in (PurePosixPath(group), *PurePosixPath(group).parents)]
        if not controllers:
            yield from (f"{GROUPS}{path}/memory.max" for path in above)
        elif "memory" in controllers.split(","):
            yield from (f"{GROUPS}/memory{path}/memory.limit_in_bytes" for path in above)

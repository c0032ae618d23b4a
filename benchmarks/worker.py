"""One process, one candidate: ``python -m benchmarks.worker WORKLOAD CANDIDATE``.

Speaks JSON lines.  Says ``{"ready": …}`` when the model is built; then, for every line ``N`` on its
standard input, does N units of work and says ``{"work": …, "seconds": …}``; at the end of the input it says
``{"peak_bytes": …}``.  Between two lines it waits in a read and takes no processor time.

A candidate is ``LIBRARY/SETTING``; each library has a module in `candidates/` whose ``build(workload,
setting)`` returns the unit: a function that does the work once and returns how much it was.
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.workloads import Workload, workload

MODULES = {
    "gptcore": "benchmarks.candidates.ours",
    "transformers": "benchmarks.candidates.hugging_face",
    "litgpt": "benchmarks.candidates.litgpt",
    "llms-from-scratch": "benchmarks.candidates.book",
    "llama.cpp": "benchmarks.candidates.llama_cpp",
    "limit": "benchmarks.candidates.limits",
    "command": "benchmarks.candidates.command",
}
Unit = Callable[[], float]


def build(work: Workload, candidate: str) -> Unit:
    """The unit of work of ``LIBRARY/SETTING``."""
    library, _, setting = candidate.partition("/")
    if library not in MODULES:
        raise ValueError(f"candidate {candidate!r}: expected a library of {', '.join(MODULES)}")
    torch.manual_seed(0)
    unit: Unit = importlib.import_module(MODULES[library]).build(work, setting)
    return unit


def measure(unit: Unit, repeats: int) -> dict[str, float]:
    """Do ``repeats`` units and time them together."""
    started = time.perf_counter()
    amount = sum(unit() for _ in range(repeats))
    return {"work": amount, "seconds": time.perf_counter() - started}


def peak_bytes() -> int:
    """Most memory this process has held, imports included.

    Linux's own account of this program; ``ru_maxrss`` also remembers the process it was forked from.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(arguments: list[str]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not end up among the answers

    def say(facts: dict[str, Any]) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    unit = build(workload(arguments[0]), arguments[1])
    say({"ready": True, "threads": torch.get_num_threads()})
    for line in sys.stdin:
        say(measure(unit, int(line)))
    say({"peak_bytes": peak_bytes()})


if __name__ == "__main__":
    main(sys.argv[1:])

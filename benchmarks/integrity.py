"""What integrity and determinism cost of the default pipeline's time.

The whole default run in a fresh clone, with `timers/sitecustomize.py` in each of its processes: seconds spent in
hashing, in writing through to the disk, in hashing of training states and in looking for numbers that are none, beside
the seconds that the run took.  What is counted is all of it, also where it runs beside other work.

Determinism takes no time of its own on a CPU: PyTorch's kernels are deterministic at a fixed number of threads
(`use_deterministic_algorithms` changes no bit there), and a seed a step is microseconds.

Rejected: two runs, with and without, in turn: the difference that is looked for is smaller than that of equal runs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT, WorkerError

TIMERS = Path(__file__).parent / "timers"


def measure(*, quick: bool) -> dict[str, Any]:
    """Seconds of the run, of each kind of care, and their share."""
    with tempfile.TemporaryDirectory(prefix="gptcore-integrity-", ignore_cleanup_errors=True) as folder:
        clone, times = Path(folder) / "project", Path(folder) / "times"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        if (downloads := ROOT / "data" / ".cache" / "downloads").is_dir():
            shutil.copytree(downloads, clone / "data" / ".cache" / "downloads")
        command = [sys.executable, "-m", "pipeline", "repro", *(["--profile", "tiny"] if quick else [])]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=clone, env=_environment(times, folder), capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise WorkerError(f"the run ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        parts: Counter[str] = Counter()
        for line in times.read_text(encoding="utf-8").splitlines():
            parts.update(json.loads(line))
    return {"seconds": seconds, "parts": dict(parts), "share": sum(parts.values()) / seconds}


def _environment(times: Path, folder: str) -> dict[str, str]:
    here = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(TIMERS),
        "DVC_SITE_CACHE_DIR": f"{folder}/site",
        "GPTCORE_TIMES": str(times),
    }

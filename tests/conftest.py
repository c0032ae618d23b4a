"""For all tests: one thread a process, nothing written outside the test's folder but the download cache."""

import os
from pathlib import Path

from hypothesis import settings

PROJECT = Path(__file__).resolve().parents[1]

# Before torch is imported, and for every process a test starts: two test processes on two cores, each with
# two threads that wait for each other, are several times slower than with one.
os.environ |= {"OMP_NUM_THREADS": "1", "GPTCORE_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("GPTCORE_CACHE", str(PROJECT / "data" / ".cache"))

# In CI the same examples every time: a new counterexample is found at a desk, not in somebody else's change.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

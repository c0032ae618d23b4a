"""llama.cpp through `xllamacpp`: greedy text from the GGUF file that the profile ``smollm2`` fetches, in its format.

Its weights are 4 bits and a scale and offset for 32 of them, which is less to read than any of our formats; the
library chooses its kernels by the processor.
"""

import os
from pathlib import Path

import xllamacpp

from benchmarks.random_data import prompt
from benchmarks.worker import Unit
from benchmarks.workloads import Workload

FOUNDATION = Path("data/raw/foundation")


def build(work: Workload, setting: str) -> Unit:
    """Setting: the format that the file has, such as ``q4_1``."""
    found = [path for path in FOUNDATION.glob("*.gguf") if path.stem.lower().endswith(f".{setting}")]
    if work.task != "decode" or len(found) != 1:
        raise ValueError(f"{FOUNDATION}: expected one .{setting}.gguf to generate with; make repro PROFILE=smollm2")
    server = xllamacpp.Server(_parameters(found[0], work))
    request = {
        "prompt": prompt(work)[0].tolist(),
        "max_tokens": work.new_tokens,
        "ignore_eos": True,
        "temperature": 0.0,
        "cache_prompt": False,
    }

    def unit() -> float:
        told = server.handle_completions(request)
        written: int = told["usage"]["completion_tokens"]
        assert written == work.new_tokens
        return written

    return unit


def _parameters(path: Path, work: Workload) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = 2 * (work.tokens + work.new_tokens)
    parameters.n_parallel = 1
    for share in (parameters.cpuparams, parameters.cpuparams_batch):
        share.n_threads = int(os.environ["OMP_NUM_THREADS"])
    return parameters

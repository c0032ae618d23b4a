"""Python runs this at the start of every process that has the folder on its path: what integrity costs in it.

Times the routines by which the project makes sure of its bytes, wherever they are called from: hashing of files,
writing through to the disk, hashing of training states, looking for numbers that are none.  At its end each process
appends one line of JSON, kind → seconds, to the file that ``GPTCORE_TIMES`` names.
"""

import atexit
import functools
import hashlib
import importlib.abc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

LATER = {
    "gptcore.checkpoint": {"hashes": "hashing training states", "_check_finite": "looking for numbers that are none"},
    "pipeline.contract.source_code": {"code_hash": "hashing files"},
    "pipeline.orchestration.integrity.on_disk": {"_read": "hashing files"},
}
"""Module → its routines, exchanged as soon as it is imported, and what they are for."""
seconds: dict[str, float] = {}


def timed(kind: str, routine: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(routine)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return routine(*arguments, **options)
        finally:
            seconds[kind] = seconds.get(kind, 0.0) + time.perf_counter() - began

    return wrapper


class Finder(importlib.abc.MetaPathFinder):
    """Lets the others find a module, and exchanges its routines when it has been loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in LATER:
            return None
        routines = LATER.pop(name)
        spec: Any = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            for routine, kind in routines.items():
                setattr(module, routine, timed(kind, getattr(module, routine)))

        spec.loader.exec_module = exec_module
        return spec


def write(path: str) -> None:
    if seconds:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(seconds) + "\n")


if "GPTCORE_TIMES" in os.environ:
    hashlib.file_digest = timed("hashing files", hashlib.file_digest)
    os.fsync = timed("writing through to the disk", os.fsync)
    sys.meta_path.insert(0, Finder())
    atexit.register(write, os.environ["GPTCORE_TIMES"])

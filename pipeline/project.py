"""Where the project's folder is, and what its tools must not do unasked.

DVC, Prefect and MLflow each have a default home outside or beside the project and each count their users
over the network.  Both are settled here once: paths come from ``DVC_ROOT``, which DVC sets for every stage
and which names the main repository even in an experiment's temporary copy, and ``QUIET`` is merged into the
environment before any of the three is imported or started.  ``LEAN`` goes the same way, to the stages.

Rejected: the working directory as the base of paths.  In an experiment's temporary copy it is a folder
that is deleted afterwards, and a tracking database in it goes too.
"""

import os
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "true",  # MLflow reads the word "true" only; "1" leaves its telemetry on
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
LEAN = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"}
"""No caches of small pieces, which glibc reads when a process starts: a stage holds less memory.

PyTorch asks for aligned memory, which glibc cuts out of a larger piece.  The slivers at its two ends go to small
objects; when the buffer is freed it cannot grow together with them, and is too short for the next of its own size: of
3.5 GB that tuning SmolLM2 with LoRA took, 1.5 were such gaps.  Without the two caches most slivers are free when the
buffer is: 2.7 GB, in the same time.  Without one of them alone it may be worse than with both.
"""


def root() -> Path:
    """The project's folder: ``DVC_ROOT`` under DVC, else the working directory."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def relative(path: Path) -> str:
    """``path`` as seen from the project's folder; of one outside, its name."""
    absolute = Path(path).absolute()
    return absolute.relative_to(root()).as_posix() if absolute.is_relative_to(root()) else absolute.name


def scratch() -> Path:
    """State that outlives a killed run but is no result: ignored by git and by DVC."""
    return root() / "data" / ".scratch"


def quiet() -> None:
    """Switch telemetry off in this process and in every process it starts."""
    os.environ.update(QUIET)


def lean() -> None:
    """Let every process that this one starts hold less memory, unless somebody has set the allocator otherwise."""
    for name, value in LEAN.items():
        os.environ.setdefault(name, value)


def module_path() -> str:
    """``PYTHONPATH`` under which a child process finds the package this one runs."""
    here = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))

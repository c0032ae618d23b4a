"""The GPT library: tensors, tokens and files.  It knows no YAML, network, DVC, Prefect or MLflow.

Importing it sets one thing: how long PyTorch's threads look for the next piece of work before they sleep.  By default
they look for milliseconds, and beside another busy process that is time taken from the very thread they wait for; if
they slept at once, waking them would cost more than most of a small model's operations take.  ``SPINS`` lies between:
a tenth slower than the default on a quiet machine, 0.6 of its time on a busy one (docs/speed.md has the numbers).

OpenMP reads the setting once, when PyTorch is loaded: in a program that imports PyTorch first it is too late, and both
variables have to be in its environment.  Whoever has set either of them is obeyed.  No bit of any result depends on it.
"""

import os
import sys

SPINS = "1000"
"""Looks of GNU's OpenMP before a thread sleeps: some 30 µs, about what PyTorch needs between two operations."""
_ASKED = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
POLICY_IN_FORCE = "torch" not in sys.modules or _ASKED
"""Whether what the environment says now is what PyTorch's threads do."""
if not _ASKED:
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}

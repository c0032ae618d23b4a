"""The GPT library: tensors, tokens and files.  It knows no YAML, network, DVC, Prefect or MLflow.

Importing it sets one thing.  PyTorch's threads wait for each other by spinning; beside another busy process
they then spin away the time of the thread that they wait for (docs/speed.md has both numbers).  OpenMP can wait
passively instead and is asked to here, because it looks once, when PyTorch is loaded: in a program that imports
PyTorch first it is too late, and ``OMP_WAIT_POLICY=passive`` has to be in its environment.  Whoever has set that
variable is obeyed.  No bit of any result depends on it.
"""

import os
import sys

POLICY_IN_FORCE = "torch" not in sys.modules or "OMP_WAIT_POLICY" in os.environ
"""Whether the wait policy that the environment names now is the one in force."""
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

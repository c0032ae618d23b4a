"""The kinds of model directory, a module a ``model_type``: those of GPT-2, Llama, Qwen, GPT-NeoX, and our own.

Each is a `Format`, found by the ``model_type`` in ``config.json``; only the one that a directory names is imported.
"""

from gptcore.seams import Seam

FAMILIES = Seam("gptcore.formats.families", "FORMAT", dashes=False)

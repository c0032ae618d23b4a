"""What a vocabulary lies in: our own files and GPT-2's, a ``tokenizer.json``, a GGUF file; a module each.

A member has ``READ``, which makes a `gptcore.tokenizer.Tokenizer` of a path, or raises ``ValueError`` with what is
wrong.  Only the one that is needed is imported, so that an edit of another reruns no stage that reads our own.
"""

from gptcore.seams import Seam

READERS = Seam("gptcore.tokenizer.readers", "READ")

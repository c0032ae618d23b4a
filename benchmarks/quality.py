"""What narrower weights cost: bits/byte on the default run's held-out text, in fp32, bf16 and int8.

``python -m benchmarks.quality`` prints one line of JSON.  The measure is the ``evaluate`` stage's: each test
document alone, windows with a stride of half the context, sums in fp32.  Only the weights differ.
"""

import json
import sys
from typing import Any

from benchmarks.candidates.ours import FORMATS, in_format
from benchmarks.process import ROOT
from gptcore import runtime
from gptcore.evaluate import bits_per_byte, document_nats
from pipeline.store.checkpoint import Checkpoint
from pipeline.store.tokens import Tokens

MODEL, TOKENS = ROOT / "data" / "checkpoints" / "pretrain", ROOT / "data" / "tokens"


def measure() -> dict[str, Any]:
    """Format → bits/byte, and the bytes they are counted over."""
    runtime.configure()
    checkpoint = Checkpoint.open(MODEL)
    tokenizer = checkpoint.tokenizer
    documents = [document.ids for document in Tokens.open(TOKENS).documents("test")]
    n_bytes = sum(len(tokenizer.decode_bytes(ids.tolist())) for ids in documents)
    bits = {}
    for form in FORMATS:
        nats = document_nats(in_format(checkpoint.load_language_model(), form), documents, tokenizer.eot)
        bits[form] = bits_per_byte(nats, n_bytes)
    return {"bits_per_byte": bits, "bytes": n_bytes}


if __name__ == "__main__":
    print(json.dumps(measure()), file=sys.stdout)

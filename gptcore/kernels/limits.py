"""How much the kernels hold at once: read by whoever estimates memory, so it needs no PyTorch."""

BLOCK = 128
"""Queries per block: 64 costs a tenth more in bfloat16, 256 a sixth more in float32."""
KEPT = 4_000_000
"""Most weights of a layer that are kept for the backward pass: 8 MB in bf16, for 1 to 3 % of a step."""
GROUP_LOGITS = 104_000_000
"""Most logits in memory at once, in the products' number format: 208 MB in bf16, 2,048 tokens of GPT-2's vocabulary."""

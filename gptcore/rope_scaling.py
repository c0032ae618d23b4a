"""How published models stretch rotary positions over longer texts than they were trained on: data, no arithmetic.

The four kinds that Llama and Qwen have been published with; `model/positions.py` computes them.  Rejected: LongRoPE
(Phi-3), whose wavelengths change while a text grows, so that what a cache holds no longer fits.
"""

from dataclasses import dataclass
from typing import Annotated

from gptcore.ranges import Checked, Context, Number, OneOf, Switch, relation

KINDS = ("linear", "dynamic", "llama3", "yarn")
Factor = Annotated[float, Number(0, 1e6, open_low=True)]


@dataclass(frozen=True, kw_only=True)
class RopeScaling(Checked):
    """Names as in ``rope_parameters`` of a Hugging Face ``config.json``, but for ``kind`` and ``original``."""

    kind: Annotated[str, OneOf(KINDS)]
    """``linear``: all wavelengths times ``factor``; ``dynamic``: none within the context, which this library never
    leaves; ``llama3``: the long ones; ``yarn``: between two numbers of turns more and more (Peng et al., 2023)."""
    factor: Factor
    original: Context = 1
    """Tokens of the context before it was stretched; of llama3 and yarn."""
    low_freq_factor: Factor = 1.0
    high_freq_factor: Factor = 4.0
    """Of llama3: waves longer than original / low are stretched, shorter than original / high left alone."""
    beta_fast: Factor = 32.0
    beta_slow: Factor = 1.0
    """Of yarn: waves that turn more often than ``beta_fast`` in the original context are left alone."""
    truncate: Annotated[bool, Switch()] = True
    """Of yarn: whether the bounds are whole channels."""
    attention_factor: Factor = 1.0
    """Of yarn: cosines and sines are multiplied by it."""

    @relation("kind", "low_freq_factor", "high_freq_factor")
    def _has_two_bounds(self) -> str | None:
        if self.kind != "llama3" or self.low_freq_factor < self.high_freq_factor:
            return None
        low, high = self.low_freq_factor, self.high_freq_factor
        return f"low_freq_factor = {low:g}: expected less than high_freq_factor = {high:g}"

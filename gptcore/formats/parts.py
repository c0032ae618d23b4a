"""Which rows of our tensor one of theirs is: families divide queries, keys, values, gate and up differently.

Ours stand below each other in one matrix: the heads of the queries, of the keys, of the values.  A part is a view of
it, so that reading copies into it and writing copies out of it.
"""

from typing import NamedTuple

from torch import Tensor

from gptcore.config import GPTConfig


class Part(NamedTuple):
    """A part of our tensor, as their tensor has it."""

    name: str = "whole"
    """``whole``; ``q``, ``k``, ``v``; ``gate``, ``up``; ``by head``: query, key and value of each head in turn."""
    transposed: bool = False
    """Whether theirs is (in, out)."""

    def view(self, ours: Tensor, config: GPTConfig) -> Tensor:
        """The part itself, of the shape ``shape`` but for ``by head``, which has (H, 3, D, …); shares our memory."""
        if self.name == "by head":
            return ours.unflatten(0, (3, config.n_head, config.head_dim)).transpose(0, 1)
        start, end = self.rows(len(ours), config)
        return ours[start:end].T if self.transposed else ours[start:end]

    def shape(self, whole: tuple[int, ...], config: GPTConfig) -> tuple[int, ...]:
        """Of their tensor, where ours has the shape ``whole``."""
        start, end = self.rows(whole[0], config)
        part = (end - start, *whole[1:])
        return part[::-1] if self.transposed else part

    def rows(self, rows: int, config: GPTConfig) -> tuple[int, int]:
        """Where it begins and ends among the ``rows`` of ours."""
        queries, keys = config.attention_width, config.kv_heads * config.head_dim
        return {
            "q": (0, queries),
            "k": (queries, queries + keys),
            "v": (queries + keys, rows),
            "gate": (0, rows // 2),
            "up": (rows // 2, rows),
        }.get(self.name, (0, rows))


WHOLE, TRANSPOSED = Part(), Part(transposed=True)

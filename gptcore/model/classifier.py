"""A GPT with a head that labels texts.

It pools as the ``…ForSequenceClassification`` models of `transformers` do: the last token that is not padding,
through a linear head without bias.  Thus it exports exactly.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gptcore.config import GPTConfig
from gptcore.model.gpt import GPT


class Classifier(nn.Module):
    """``Classifier(gpt, labels, pad_id)(ids)``: right-padded ids (B, T) → logits (B, number of labels)."""

    def __init__(self, gpt: GPT, labels: Sequence[str], pad_id: int) -> None:
        super().__init__()
        self.gpt, self.labels, self.pad_id = gpt, list(labels), pad_id
        self.score = nn.Linear(gpt.config.d_model, len(labels), bias=False)
        nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, ids: Tensor, entering: Tensor | None = None) -> Tensor:
        x = self.gpt.hidden(ids, entering)  # (B, T, C)
        return self.score(x[torch.arange(len(ids)), self.last_real(ids)])  # (B, labels)

    def at_every_token(self, ids: Tensor, entering: Tensor | None = None) -> Tensor:
        """Logits (B, T, labels) of what was read up to each token; at padding they mean nothing."""
        return self.score(self.gpt.hidden(ids, entering))

    def last_real(self, ids: Tensor) -> Tensor:
        """Index (B) of the last token that is not padding; 0 where there is none."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        return ((ids != self.pad_id) * positions).argmax(dim=1)

    @property
    def body(self) -> GPT:
        return self.gpt

    @property
    def config(self) -> GPTConfig:
        return self.gpt.config

    def n_params(self) -> int:
        """Number of parameters in use: the GPT's own head is not."""
        return sum(p.numel() for name, p in self.named_parameters() if name != "gpt.head.weight")

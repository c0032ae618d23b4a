"""Which loss prefers one answer to another.  Read by whoever reads parameters, so it needs no PyTorch."""

from dataclasses import dataclass
from typing import Annotated

from gptcore.ranges import Checked, Number, OneOf, relation

LOSSES = ("sigmoid", "robust", "sigmoid_norm", "ipo")
SMOOTHED = ("sigmoid", "robust")


@dataclass(frozen=True)
class PreferenceLoss(Checked):
    """The formulas are in `gptcore.objectives.preference`."""

    loss: Annotated[str, OneOf(LOSSES)] = "sigmoid"
    """``sigmoid`` (DPO), ``robust``, or per token: ``sigmoid_norm``, ``ipo``."""
    beta: Annotated[float, Number(0, 1000, open_low=True)] = 0.1
    """How strongly the model is held to the reference: larger, less departure.  Of ``ipo`` it is the paper's τ."""
    label_smoothing: Annotated[float, Number(0, 0.5, open_high=True)] = 0.0
    """Share of pairs that are taken to be the wrong way round (``sigmoid``, ``robust``)."""

    sft_weight: Annotated[float, Number(0, 1000)] = 0.0
    """Weight of the chosen answers' own loss in nats/token, which keeps them likely while the margin grows."""

    @property
    def per_token(self) -> bool:
        """Whether an answer counts by the mean over its tokens, not by their sum."""
        return self.loss in ("sigmoid_norm", "ipo")

    @relation("loss", "label_smoothing")
    def _smooths(self) -> str | None:
        if self.label_smoothing and self.loss not in SMOOTHED:
            return f"label_smoothing = {self.label_smoothing}: expected 0 with loss {self.loss}, which has none"
        return None

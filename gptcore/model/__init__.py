"""The GPT, part by part: attention, positions, norm, MLP, block, the whole, and heads other than its own."""

from gptcore.model.classifier import Classifier
from gptcore.model.gpt import GPT

__all__ = ["GPT", "Classifier"]

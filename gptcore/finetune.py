"""From a language model to a classifier or to one that follows instructions.

The classifier pools as `transformers`' ``GPT2ForSequenceClassification`` does: the last token that is not
padding, through a linear head without bias.  Thus it exports exactly.

Instruction tuning stays next-token prediction; only the tokens of the response, its end included, carry
loss.  The prompt has one fixed form (``PROMPT``), which generation must repeat to the letter.  Fields
stand behind a space and not on new lines: a word then has the same tokens in the input and in the answer,
and copying is easy to learn (with fields on new lines a small model copied a word of its input right in 20
of 100 cases, with a space in 100).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptcore.data import Batch
from gptcore.losses import IGNORE
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer

PROMPT = "### Instruction: {instruction}\n"
PROMPT_INPUT = "### Input: {input}\n"
PROMPT_RESPONSE = "### Response:"
RESPONSE = " {output}"


class Classifier(nn.Module):
    """``Classifier(gpt, labels, pad_id)(ids)``: right-padded ids (B, T) → logits (B, number of labels)."""

    def __init__(self, gpt: GPT, labels: Sequence[str], pad_id: int) -> None:
        super().__init__()
        self.gpt, self.labels, self.pad_id = gpt, list(labels), pad_id
        self.score = nn.Linear(gpt.config.d_model, len(labels), bias=False)
        nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.gpt.hidden(ids)  # (B, T, C)
        last = _last_real(ids, self.pad_id)  # (B)
        return self.score(x[torch.arange(len(ids)), last])  # (B, labels)

    @property
    def n_labels(self) -> int:
        return len(self.labels)


def classification_loss(model: Classifier, batch: Batch) -> Tensor:
    """Cross-entropy in nats of ids (B, T) and labels (B)."""
    ids, labels = batch
    return F.cross_entropy(model(ids).float(), labels)


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """Rows of ids as one tensor (B, T), padded on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows], dtype=torch.long)


def format_prompt(instruction: str, input_text: str = "") -> str:
    """Everything before the response, in the form the model was tuned on."""
    middle = PROMPT_INPUT.format(input=input_text) if input_text else ""
    return PROMPT.format(instruction=instruction) + middle + PROMPT_RESPONSE


def format_response(output: str) -> str:
    """The response as it stands after the prompt; ``strip`` gives the output back."""
    return RESPONSE.format(output=output)


def instruction_example(
    tokenizer: Tokenizer, instruction: str, input_text: str, output: str
) -> tuple[list[int], list[int]]:
    """Input ids and targets of one example; targets of the prompt are ``IGNORE``.

    The response is encoded by itself, exactly as generation will produce it, and ends with end-of-text.
    """
    prompt = tokenizer.encode(format_prompt(instruction, input_text))
    response = [*tokenizer.encode(format_response(output)), tokenizer.eot]
    ids = prompt + response
    return ids[:-1], [IGNORE] * (len(prompt) - 1) + response


def instruction_batch(examples: Sequence[tuple[list[int], list[int]]], pad_id: int) -> Batch:
    """Examples as x, y (B, T), padded on the right; padding carries no loss."""
    return pad([x for x, _ in examples], pad_id), pad([y for _, y in examples], IGNORE)


def _last_real(ids: Tensor, pad_id: int) -> Tensor:
    """Index (B) of the last token that is not padding; 0 where there is none."""
    positions = torch.arange(ids.shape[1], device=ids.device)
    return ((ids != pad_id) * positions).argmax(dim=1)

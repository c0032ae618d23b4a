"""A model between two stages, in a layout that `gptcore.formats` reads, with what it is for.

``About`` is what the stage that trained a model has to say of it: exports, cards and commands are made from that, so
that a model of one's own stage is exported like any other.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gptcore.errors import DataError
from gptcore.formats.containers.safetensors import WEIGHTS_FILE
from gptcore.formats.directory import load_any, load_model
from gptcore.formats.table import Model
from gptcore.model import GPT
from gptcore.tokenizer import Tokenizer
from pipeline.store.artifact import Artifact


@dataclass(frozen=True)
class About:
    """What a checkpoint is for, in the words of the stage that made it."""

    title: str
    """Of its card; ``{}`` stands for the architecture: ``{} text classifier``."""
    summary: str
    """What it does, in a sentence."""
    tag: str
    """For model hubs: ``pretrain``."""
    command: str
    """How gptcore uses it; ``{}`` stands for the directory."""
    example: str
    """How `transformers` uses it, in Python."""
    takes_instructions: bool = False
    """Whether it was tuned on `gptcore.prompt`'s form."""
    longest: int = 0
    """Tokens of a text that it was tuned on; 0: its context."""
    limitations: list[str] = field(default_factory=list)
    """What it can't do, beside what no such model can."""


LANGUAGE_MODEL = About(
    title="{} language model",
    summary="Continues a text.",
    tag="pretrain",
    command='python -m gptcore generate {} "Once upon a time"',
    example="""\
from transformers import pipeline

generate = pipeline("text-generation", model=".")
print(generate("Once upon a time", temperature=0.8)[0]["generated_text"])""",
)

FOLLOWS_INSTRUCTIONS = About(
    title="{} tuned to follow instructions",
    summary="Answers short instructions in the prompt form it was tuned on.",
    tag="finetune-instruct",
    command="python -m gptcore chat {}",
    example="""\
from transformers import pipeline

answer = pipeline("text-generation", model=".")
messages = [{"role": "user", "content": "Write the word in capital letters.", "input": "stone"}]
print(answer(messages)[0]["generated_text"][-1]["content"])""",
    takes_instructions=True,
    limitations=[
        "It knows the kinds of tasks it was tuned on, in single turns; any other request gets such an answer too."
    ],
)


class Checkpoint(Artifact):
    KIND = "checkpoint"

    @cached_property
    def about(self) -> About:
        try:
            return About(**self.fact("about"))
        except TypeError as error:
            raise DataError(f"{self.path}: what the manifest says it is for can't be read ({error})") from None

    @property
    def recipe(self) -> dict[str, Any]:
        """The parameters that it was made with, by section."""
        return {name: value for name, value in self.manifest.config.items() if name not in _OWN_PLACE}

    @property
    def metrics(self) -> dict[str, Any]:
        return dict(self.manifest.config.get("metrics", {}))

    @property
    def weights_hash(self) -> str:
        """sha256 of the weights' file."""
        return str(self.manifest.files[WEIGHTS_FILE]["sha256"])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.path)

    def load(self) -> Model:
        """The model, a language model or a classifier."""
        return load_any(self.path)

    def load_language_model(self) -> GPT:
        return load_model(self.path)


_OWN_PLACE = ("stage", "about", "sources", "metrics")

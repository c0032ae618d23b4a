"""How to measure the models, and on how much."""

from dataclasses import dataclass, field
from typing import Annotated

from gptcore.ranges import Batch, Checked, Context, Each, Number, OneOf, Seed, Switch, Whole, later
from pipeline.tasks.sets import TASKS

DEFAULT_TASKS = ("classification", "instruction")
Examples = Annotated[int, Whole(1, 1_000_000)]


@dataclass(frozen=True)
class EvaluateConfig(Checked):
    """How to measure, and on how much."""

    stride: Annotated[int, Whole(0, 1_048_576)]
    """Tokens from one window of the held-out text to the next; 0: half the model's context."""
    batch_windows: Batch
    """Windows, or prompts, in one forward pass."""
    prompts: Annotated[list[str], Each()]
    """What the samples continue; an empty one begins a new document."""
    temperatures: Annotated[list[float], Each(Number(0, 100))]
    """Of the samples; 0 takes the likeliest token every time."""
    max_new_tokens: Context
    """Tokens of a sample, at most."""
    shots: Annotated[list[int], Each(Whole(0, 1_000))]
    """Numbers of solved examples in a prompt."""
    prompt_examples: Examples
    """Test documents to classify by prompting, at most."""
    prompt_examples_per_kind: Examples
    """Test instructions of each kind to answer by prompting, at most."""
    seed: Seed
    """Of the samples and of the draw of examples."""
    tasks: Annotated[list[str], Each(OneOf(TASKS.names))] = field(default_factory=lambda: [*DEFAULT_TASKS])
    """Members of `pipeline.tasks.sets` to solve by prompting."""
    context: Annotated[int, Whole(0, 1_048_576)] = later(0)
    """Tokens of a window of held-out text and of a prompt, at most; 0: the model's whole context.  A model that could
    see thousands is bounded by it in time and memory; two models see the same amount of tokens with it."""
    calibrate: Annotated[bool, Switch()] = later(False)
    """Report calibrated answers too (`pipeline.tasks.prompting`) and macro-F1, of tasks that ask about a text."""

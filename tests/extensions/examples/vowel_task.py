"""A task: does a letter stand for a vowel?  Twenty-six examples, every third of them for testing."""

from collections.abc import Sequence
from string import ascii_lowercase

from pipeline.tasks.problems import Example, Problem, draw
from pipeline.tasks.sets import Amount, TaskData

ANSWERS = (" no", " yes")


class Vowels:
    per_token = False

    def __init__(self, data: TaskData) -> None:
        """The examples need no data."""

    def examples(self, split: str) -> list[Example]:
        letters = [c for i, c in enumerate(ascii_lowercase) if (i % 3 == 0) == (split == "test")]
        return [Example("", f"Is {c} a vowel?", ANSWERS[c in "aeiou"]) for c in letters]

    def score(self, answers: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        return {"accuracy": sum(a == e.answer for a, e in zip(answers, examples, strict=True)) / len(examples)}

    def problems(self, amount: Amount) -> list[Problem]:
        asked = draw(self.examples("test"), amount.examples, amount.seed)
        shots = [tuple(draw(self.examples("train"), amount.shots, amount.seed, i)) for i in range(len(asked))]
        return [Problem(example, ANSWERS, shown) for example, shown in zip(asked, shots, strict=True)]

    def without_model(self, problems: Sequence[Problem]) -> dict[str, float]:
        return {"majority": sum(problem.asked.answer == ANSWERS[0] for problem in problems) / len(problems)}

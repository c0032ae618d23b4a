"""Telling which label a text has: the labelled sources of ``data/raw``, by their published split or by hash."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from gptcore.evaluate import accuracy, macro_f1
from pipeline.corpus.document import LabelledDocument
from pipeline.corpus.documents import read_labelled
from pipeline.store.raw import Raw
from pipeline.tasks.problems import Example, Problem, draw
from pipeline.tasks.sets import Amount, TaskData

TOPIC = "\nTopic:"


class Classification:
    """Labels of documents."""

    per_token = False

    def __init__(self, data: TaskData) -> None:
        self.raw = Raw.open(data.raw)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The position of a label is its class index."""
        return self.raw.labels()

    def examples(self, split: str) -> list[LabelledDocument]:
        """Of val there may be none: most sets have none of their own."""
        return read_labelled(self.raw, split, optional=split == "val")

    def score(self, answers: Sequence[str], examples: Sequence[LabelledDocument]) -> dict[str, float]:
        actual = [document.label for document in examples]
        return {
            "accuracy": round(accuracy(answers, actual), 4),
            "macro_f1": round(macro_f1(answers, actual, self.labels), 4),
        }

    def problems(self, amount: Amount) -> list[Problem]:
        """Test documents as they come, so with the frequencies of the test set; shots likewise from training."""
        train, test = self.examples("train"), self.examples("test")
        candidates = tuple(map(_spaced, self.labels))
        asked = draw(test, amount.examples, amount.seed, "classification")
        return [
            Problem(
                _labelled(document),
                candidates,
                tuple(map(_labelled, draw(train, amount.shots, amount.seed, "shots", number))),
            )
            for number, document in enumerate(asked)
        ]

    def without_model(self, problems: Sequence[Problem]) -> dict[str, float]:
        """Share of the problems that the most frequent label of the training documents solves."""
        counts = Counter(document.label for document in self.examples("train"))
        majority = _spaced(max(sorted(counts), key=lambda label: counts[label]))
        return {"majority": sum(problem.asked.answer == majority for problem in problems) / len(problems)}


def _labelled(document: LabelledDocument) -> Example:
    return Example(document.text, TOPIC, _spaced(document.label))


def _spaced(label: str) -> str:
    """A label as it stands after the cue."""
    return f" {label}"


TASK = Classification

"""Following instructions of many kinds, each with one right answer (``data/instructions.jsonl``)."""

from collections.abc import Callable, Sequence

from gptcore.prompt import format_prompt, format_response
from pipeline.tasks.baselines.texts import chrf
from pipeline.tasks.instructions import Instruction, read_instructions
from pipeline.tasks.problems import Example, Problem, draw
from pipeline.tasks.sets import Amount, TaskData

CANDIDATES = 4
"""Most answers to choose from in a problem."""


class FollowInstructions:
    """Answers to instructions, by kind."""

    per_token = True

    def __init__(self, data: TaskData) -> None:
        self.path = data.instructions

    def examples(self, split: str) -> list[Instruction]:
        return read_instructions(self.path, split)

    def score(self, answers: Sequence[str], examples: Sequence[Instruction]) -> dict[str, float]:
        """Share of answers that are right to the letter, and chrF (Popović, 2015)."""
        hits = sum(example.is_answered_by(given) for given, example in zip(answers, examples, strict=True))
        expected = [example.output for example in examples]
        return {"exact_match": round(hits / len(expected), 4), "chrf": round(chrf(answers, expected), 2)}

    def problems(self, amount: Amount) -> list[Problem]:
        """Test entries of every kind, with shots of the same kind.

        The candidates are the right answer and up to three other answers to test entries of the same kind.
        """
        train, test = self.examples("train"), self.examples("test")
        problems = []
        for kind in sorted({entry.kind for entry in test}):
            solved = [_solved(entry) for entry in train if entry.kind == kind]
            asked = [_solved(entry) for entry in test if entry.kind == kind]
            answers = sorted({example.answer for example in asked})
            for number, example in enumerate(draw(asked, amount.per_kind, amount.seed, kind)):
                others = [answer for answer in answers if answer != example.answer]
                wrong = draw(others, CANDIDATES - 1, amount.seed, kind, "answers", number)
                candidates = tuple(sorted([example.answer, *wrong]))
                shots = tuple(draw(solved, amount.shots, amount.seed, kind, "shots", number))
                problems.append(Problem(example, candidates, shots))
        return problems

    def without_model(self, problems: Sequence[Problem]) -> dict[str, float]:
        """Accuracy to expect from drawing among the candidates."""
        return {"chance": sum(1 / len(problem.candidates) for problem in problems) / len(problems)}


def _solved(entry: Instruction) -> Example:
    """A conversation's earlier turns stand before its last question, in the same form."""
    earlier = "".join(_FORMS[turn["role"]](turn["content"]) for turn in entry.history)
    return Example("", earlier + format_prompt(entry.instruction, entry.input), format_response(entry.output))


_FORMS: dict[str, Callable[[str], str]] = {
    "system": "{}\n".format,
    "user": format_prompt,
    "assistant": lambda content: f"{format_response(content)}\n",
}


TASK = FollowInstructions

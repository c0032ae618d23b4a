"""Answers by prompting: accuracy for every task; for labels, if wanted, macro-F1 and calibrated answers too.

Accuracy alone hides a model that gives one label to everything where that label is frequent, so the calibrated report
has macro-F1 beside it and both numbers of the most frequent label, which needs no model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptcore.evaluate import accuracy, macro_f1
from pipeline.evaluation.held_out import rounded
from pipeline.tasks.problems import Problem
from pipeline.tasks.prompting import Solved
from pipeline.tasks.sets import Task

Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A task and its problems, to be solved by prompting."""

    task: Task
    problems: list[Problem]
    calibrate: bool
    """Whether calibrated answers are wanted and there is a text to leave out."""

    @classmethod
    def of(cls, task: Task, problems: list[Problem], calibrate: bool) -> "Asked":
        return cls(task, problems, calibrate and any(problem.asked.text for problem in problems))

    def row(self, solved: Solved, extended: bool) -> Row:
        """The measures of a model's answers; ``extended`` has a cell for each measure, empty where it isn't taken."""
        hits = sum(chosen == problem.right for chosen, problem in zip(solved.chosen, self.problems, strict=True))
        row: Row = {
            "accuracy": rounded(hits / len(self.problems)),
            "mean_shots": rounded(solved.mean_shots),
            "examples": len(self.problems),
        }
        if extended:
            plain, calibrated = (
                self._measures(c) if self.calibrate else {} for c in (solved.chosen, solved.calibrated)
            )
            row["macro_f1"] = plain.get("macro_f1")
            row |= {f"calibrated_{name}": calibrated.get(name) for name in ("accuracy", "macro_f1")}
        return row

    def _measures(self, chosen: Sequence[int]) -> dict[str, float]:
        given = [problem.candidates[number] for problem, number in zip(self.problems, chosen, strict=True)]
        actual = [problem.asked.answer for problem in self.problems]
        return {
            "accuracy": rounded(accuracy(given, actual)),
            "macro_f1": rounded(macro_f1(given, actual, self.labels)),
        }

    @property
    def labels(self) -> list[str]:
        return sorted({candidate for problem in self.problems for candidate in problem.candidates})


def accuracies(task_name: str, asked: Asked, answers: Sequence[Mapping[str, Any]]) -> Row:
    """Model → number of shots → accuracy, and what answers get that ignore the question."""
    without_model = {name: rounded(value) for name, value in asked.task.without_model(asked.problems).items()}
    found: Row = {"examples": len(asked.problems), **without_model}
    for row in answers:
        if row["task"] == task_name:
            found.setdefault(row["model"], {})[f"shots_{row['shots']}"] = row["accuracy"]
    return found


def calibrated(tasks: Mapping[str, Asked], answers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Row]]:
    """Task → model → number of shots → accuracy and macro-F1 before and after, beside the most frequent label."""
    for name, asked in tasks.items():
        if not asked.calibrate:
            continue
        found: Row = {}
        if (majority := asked.task.without_model(asked.problems).get("majority")) is not None:
            found["majority"] = {"accuracy": rounded(majority), "macro_f1": constant_f1(majority, len(asked.labels))}
        for row in answers:
            if row["task"] == name:
                found.setdefault(row["model"], {})[f"shots_{row['shots']}"] = {
                    "uncalibrated": {measure: row[measure] for measure in ("accuracy", "macro_f1")},
                    "calibrated": {measure: row[f"calibrated_{measure}"] for measure in ("accuracy", "macro_f1")},
                }
        yield name, found


def constant_f1(share: float, labels: int) -> float:
    """Macro-F1 of one label for all, which ``share`` of the examples have.

    Its precision is the share and its recall is 1; the other labels' F1 is 0.
    """
    return rounded(2 * share / (1 + share) / labels)

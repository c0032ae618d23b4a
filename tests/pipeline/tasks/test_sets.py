"""The tasks: problems against the data that they are made of, scores against what can be counted by hand."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from gptcore.prompt import format_prompt, format_response
from pipeline.store.raw import Layout
from pipeline.tasks.instructions import Instruction
from pipeline.tasks.problems import Problem
from pipeline.tasks.sets import TASKS, Amount, Task, TaskData
from tests.raw_data import make_raw

LABELLED = Layout("jsonl", "text", "label", ("a", "b", "c"))
TRAIN, TEST = ("a", "b", "a", "c") * 5, ("a", "b", "b", "b") * 5


def test_there_are_these_tasks() -> None:
    assert {"classification", "instruction"} <= set(TASKS.names())


# --- classification ---------------------------------------------------------------------------------------


def classification(directory: Path, train: Sequence[str] = TRAIN) -> Task:
    """The task, its documents ``train 0``, ``train 1``, … and ``test 0``, … with these labels."""
    entries = []
    for split, labels in (("train", train), ("test", TEST)):
        lines = (json.dumps({"text": f"{split} {i}", "label": label}) + "\n" for i, label in enumerate(labels))
        entries.append((split, LABELLED, "".join(lines).encode()))
    raw = make_raw(directory, *entries, role="classification", split=None)
    return TASKS["classification"](TaskData(raw, directory / "none"))


def asked(task: Task, seed: int = 1, count: int = 6) -> list[Problem]:
    return task.problems(Amount(examples=count, per_kind=0, shots=3, seed=seed))


def test_classification_asks_test_documents_and_shows_training_documents(tmp_path: Path) -> None:
    problems = asked(classification(tmp_path))
    assert len({problem.asked.text for problem in problems}) == 6
    for problem in problems:
        assert problem.candidates == (" a", " b", " c")
        assert problem.candidates[problem.right] == problem.asked.answer
        assert problem.asked.text.startswith("test")
        assert len({shot.text for shot in problem.shots}) == 3
        assert all(shot.text.startswith("train") for shot in problem.shots)
        for example in (problem.asked, *problem.shots):
            index = int(example.text.split()[1])
            assert example.answer == " " + {"train": "abac", "test": "abbb"}[example.text.split()[0]][index % 4]
    assert len({problem.shots for problem in problems}) > 1


def test_what_is_drawn_depends_on_the_seed_alone(tmp_path: Path) -> None:
    task, again = classification(tmp_path / "one"), classification(tmp_path / "other")
    assert asked(task) == asked(again)
    assert asked(task) != asked(task, seed=2)
    assert sorted(p.asked.text for p in asked(task, count=99)) == sorted(f"test {i}" for i in range(20))


def test_majority_is_the_training_documents(tmp_path: Path) -> None:
    for train, expected in ((("a", "a", "b"), 5 / 20), (("a", "b", "b"), 15 / 20)):
        task = classification(tmp_path / train[1], train)
        assert task.without_model(asked(task, count=99)) == {"majority": expected}


def test_labels_are_scored_by_accuracy_and_f1(tmp_path: Path) -> None:
    task = classification(tmp_path)
    test = task.examples("test")[:4]  # a, b, b, b
    assert task.score(["a", "b", "b", "b"], test) == {"accuracy": 1.0, "macro_f1": round(2 / 3, 4)}  # c never occurs
    assert task.score(["b", "b", "b", "c"], test) == {"accuracy": 0.5, "macro_f1": round(2 / 3 / 3, 4)}


# --- instructions -----------------------------------------------------------------------------------------


def entries(split: str) -> list[Instruction]:
    numbers = [Instruction("Double it.", str(n), str(2 * n), "double", split) for n in range(10)]
    parities = [Instruction("Odd?", str(n), "yes" if n % 2 else "no", "parity", split) for n in range(10)]
    return parities + numbers


def instruction(directory: Path, train: list[Instruction]) -> Task:
    path = directory / "instructions.jsonl"
    lines = [
        {name: value for name, value in asdict(entry).items() if value != ()} for entry in [*train, *entries("test")]
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return TASKS["instruction"](TaskData(directory / "none", path))


def test_instruction_candidates_are_other_answers_of_the_kind(tmp_path: Path) -> None:
    task = instruction(tmp_path, entries("train"))
    problems = task.problems(Amount(examples=0, per_kind=5, shots=2, seed=1))
    assert len(problems) == 10
    for problem in problems:
        double = "Double" in problem.asked.cue
        answers = [str(2 * n) for n in range(10)] if double else ["yes", "no"]
        assert set(problem.candidates) <= set(map(format_response, answers))
        assert len(set(problem.candidates)) == len(problem.candidates) == (4 if double else 2)
        assert problem.candidates[problem.right] == problem.asked.answer
        assert [("Double" in shot.cue) for shot in problem.shots] == [double] * 2
        assert problem.asked.cue in [format_prompt("Double it." if double else "Odd?", str(n)) for n in range(10)]
    assert len({problem.right for problem in problems if len(problem.candidates) == 4}) > 1
    (chance,) = task.without_model(problems).values()
    assert math.isclose(chance, (5 / 4 + 5 / 2) / 10)


def test_a_conversation_is_put_with_its_earlier_turns(tmp_path: Path) -> None:
    roles = ("system", "user", "assistant", "user", "assistant")
    turns = [
        {"role": role, "content": text} for role, text in zip(roles, ("Be kind.", "1?", "2", "2?", "4"), strict=True)
    ]
    path = tmp_path / "talks.jsonl"
    lines = [{"messages": turns, "kind": "talk", "split": split} for split in ("train", "test")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = TASKS["instruction"](TaskData(tmp_path / "none", path))
    (problem,) = task.problems(Amount(examples=0, per_kind=1, shots=0, seed=1))
    expected = "Be kind.\n" + format_prompt("1?") + format_response("2") + "\n" + format_prompt("2?")
    assert (problem.asked.cue, problem.asked.answer) == (expected, format_response("4"))


def test_shots_of_instructions_come_from_training(tmp_path: Path) -> None:
    task = instruction(tmp_path, [Instruction("Double it.", "77", "154", "double", "train")])
    for problem in task.problems(Amount(examples=0, per_kind=2, shots=4, seed=1)):
        answers = [format_response("154")] if "Double" in problem.asked.cue else []
        assert [shot.answer for shot in problem.shots] == answers


def test_answers_are_scored_to_the_letter_and_by_chrf(tmp_path: Path) -> None:
    task = instruction(tmp_path, [])
    test = [entry for entry in task.examples("test") if entry.kind == "double"]
    right = [entry.output for entry in test]
    assert task.score(right, test) == {"exact_match": 1.0, "chrf": 100.0}
    wrong = task.score([*right[:8], "8", f"{right[9]}."], test)  # of 16 and of 18
    assert wrong["exact_match"] == 0.8
    assert 80 < wrong["chrf"] < 100
    with pytest.raises(ValueError, match="longer"):
        task.score(right[:-1], test)

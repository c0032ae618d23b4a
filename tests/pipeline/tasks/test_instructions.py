"""The reader of data/instructions.jsonl: what it returns, and that it names the line it refuses."""

import json
from pathlib import Path

import pytest

from gptcore.errors import DataError
from pipeline.tasks.instructions import Instruction, read_instructions
from pipeline.tasks.sets import TaskData
from pipeline.tasks.sets.instruction import FollowInstructions

ADD = {"instruction": "Add.", "input": "1 and 2", "output": "3", "kind": "add", "split": "train"}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Add 1 and 2."},
    {"role": "assistant", "content": "3"},
    {"role": "user", "content": "And 4?"},
    {"role": "assistant", "content": "7"},
]
HELLO = {"instruction": "Say hello.", "input": "", "output": "hello", "kind": "say", "split": "test"}


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def talk(messages: object, **more: str) -> dict[str, object]:
    return {"messages": messages, "kind": "talk", "split": "train", **more}


def test_a_conversation_is_its_last_question_and_the_turns_before(tmp_path: Path) -> None:
    path = write(tmp_path / "i.jsonl", ADD, talk(TALK), talk(TALK[1:3]))
    single, whole, short = read_instructions(path, "train")
    assert single == Instruction(**ADD)
    assert whole == Instruction("And 4?", "", "7", "talk", "train", tuple(TALK[:3]))
    assert short == Instruction("Add 1 and 2.", "", "3", "talk", "train")
    assert whole.asked.split() == ["Be", "brief.", "Add", "1", "and", "2.", "3", "And", "4?"]


def test_white_space_around_an_answer_is_no_part_of_it() -> None:
    entry = Instruction(**{**ADD, "output": "the  sea\n"})
    assert [entry.is_answered_by(text) for text in ("the  sea", " the  sea\n", "the sea", "The  sea")] == [1, 1, 0, 0]
    assert FollowInstructions(TaskData(Path(), Path())).score(["the  sea", "x"], [entry, entry])["exact_match"] == 0.5


def test_a_split_is_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    second = {**ADD, "input": "2 and 2", "output": "4 é"}
    path = write(tmp_path / "i.jsonl", ADD, HELLO, second)
    assert read_instructions(path, "train") == [Instruction(**ADD), Instruction(**second)]
    assert read_instructions(path, "test") == [Instruction(**HELLO)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{not json", "Expecting"),
        ("[1]", "a JSON object"),
        ({key: value for key, value in ADD.items() if key != "kind"}, "expected the keys"),
        ({**ADD, "note": "?"}, "note"),
        ({**ADD, "output": 3}, "output: expected a string, found int"),
        ({**ADD, "output": " "}, "output: expected text"),
        ({**ADD, "split": "dev"}, "'dev'"),
        ({**ADD, "input": "ok \ud83d"}, "input: expected Unicode text, found half a surrogate pair"),
        ("[" * 100_000, "line 3"),
        (talk(TALK, output="7"), "expected the keys messages, kind, split"),
        (talk(TALK[:1]), "messages: expected a list of two turns or more"),
        (talk("hello"), "messages: expected a list of two turns or more"),
        (talk(TALK[:4]), "messages: expected an assistant's turn at the end, found user"),
        (talk(TALK[:2]), "messages: expected an assistant's turn at the end, found user"),
        (talk(TALK[2:]), "messages, turn 1: expected the role user, found 'assistant'"),
        (talk([*TALK, TALK[0]]), "messages, turn 6: expected the role user, found 'system'"),
        (talk([*TALK[:2], {"role": "assistant", "content": " "}]), "messages, turn 3: expected text, found none"),
        (talk([*TALK[:2], {"role": "assistant", "content": 3}]), "messages, turn 3: expected content that is text"),
        (talk([*TALK[:2], {"role": "assistant", "content": "\udc00"}]), "turn 3: expected Unicode text"),
        (talk([*TALK[:2], "3"]), "messages, turn 3: expected an object with role and content"),
    ],
)
def test_the_first_bad_line_is_named_also_where_it_is_of_another_split(tmp_path: Path, bad: object, words: str) -> None:
    path = write(tmp_path / "i.jsonl", ADD, HELLO, bad)
    with pytest.raises(DataError, match=r"i\.jsonl, line 3: ") as caught:
        read_instructions(path, "test")
    assert words in str(caught.value)


def test_text_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "i.jsonl"
    path.write_bytes(json.dumps(ADD).encode() + b'\n{"instruction": "\xff"}\n')
    with pytest.raises(DataError, match=r"line 2: .*utf-8"):
        read_instructions(path, "train")


def test_a_split_without_entries_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'val'.*none among 2 lines"):
        read_instructions(write(tmp_path / "i.jsonl", ADD, HELLO), "val")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: can't be read"):
        read_instructions(tmp_path / "gone.jsonl", "train")

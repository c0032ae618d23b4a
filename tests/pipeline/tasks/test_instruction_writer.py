"""The committed instruction data: right answers, disjoint splits, and exactly what the generator writes.

Every kind has a solver here that reads the question as a person would and shares no code with the generator.
It also names the instance from the text alone, so that the splits are compared by what they ask.  Opposites
and spellings of verbs can't be computed; they are compared with lists typed for this test.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from pipeline.tasks.instruction_writer import words
from pipeline.tasks.instructions import read_instructions

PROJECT = Path(__file__).resolve().parents[3]
FILE = PROJECT / "data" / "instructions.jsonl"
ENTRIES: list[dict[str, str]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
BY_KIND: dict[str, list[dict[str, str]]] = defaultdict(list)
for _entry in ENTRIES:
    BY_KIND[_entry["kind"]].append(_entry)

Solved = tuple[str, Hashable]
"""The answer, and what the question is about."""


def pairs(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


ANIMALS = re.compile(
    r"\b(bird|horse|wolf|fox|duck|dog|cat|bear|fish|goose|pig|lion|mouse|sparrow|raven|frog|rooster|hare|hedgehog|sheep|"
    r"deer|ant|bat|duckling|chicken|stag|crow|cow|hen)\b"
)
COLOURS = re.compile(r"\b(red|blue|green|white|black|yellow|brown|grey|golden|silver) (\w+)")
MEN = re.compile(r"king|prince|boy|man|fisherman|huntsman|lord|father|brother|husband|son|gentleman")
STATEMENT = re.compile(r"The (\w+) (is|was|will|could|should) ((?:be )?(\w+))\.")

IRREGULAR_PLURALS = pairs("wolf wolves fox foxes goose geese mouse mice fish fish sheep sheep deer deer")
IRREGULAR_PASTS = pairs(
    "find found see saw take took bring brought sell sold buy bought lose lost hide hid keep kept hold held throw "
    "threw break broke forget forgot steal stole choose chose give gave leave left draw drew catch caught get got "
    "make made wear wore seek sought shake shook"
)
OPPOSITES = pairs(
    "old young rich poor happy sad good bad beautiful ugly kind cruel warm cold strong weak alive dead clean dirty"
)
OPPOSITES |= {value: key for key, value in OPPOSITES.items()}
SMALLER_UNITS = {
    "metres": (100, "centimetres"),
    "kilometres": (1000, "metres"),
    "kilograms": (1000, "grams"),
    "dollars": (100, "cents"),
}
KNOWN_ANTONYMS = pairs(
    "big small long short high low fast slow day night black white light dark full empty up down before after first "
    "last left right early late love hate friend enemy war peace life death begin end buy sell win lose north south "
    "summer winter hard soft thick thin wide narrow deep shallow sweet bitter true false easy difficult cheap "
    "expensive always never everything nothing more less rise fall borrow lend hope despair possible impossible "
    "odd even plus minus"
)


def parsed(pattern: str | re.Pattern[str], text: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, text)
    assert match, text
    return match.groups()


def past_of(verb: str) -> str:
    if verb in IRREGULAR_PASTS:
        return IRREGULAR_PASTS[verb]
    stem = re.sub(r"([^aeiou])y$", r"\1i", verb).removesuffix("e")
    return f"{'dropp' if verb == 'drop' else stem}ed"


def present_of(verb: str) -> str:
    if re.search(r"(s|x|ch|sh)$", verb):
        return f"{verb}es"
    return re.sub(r"([^aeiou])y$", r"\1ie", verb) + "s"


# Solvers


def find_number(text: str) -> Solved:
    ((number, counted),) = re.findall(r"(\d+) (\w+)", text)
    return number, (number, counted)


def find_animal(text: str) -> Solved:
    (animal,) = ANIMALS.findall(text)
    return animal, frozenset(text.split())


def find_colour(text: str) -> Solved:
    ((colour, thing),) = COLOURS.findall(text)
    return colour, (colour, thing)


def find_place(text: str) -> Solved:
    who, thing, answer, place = parsed(r"The (\w+) \w+ the (\w+) ((?:in|near|behind|before) the (\w+))\.", text)
    return answer, (who, thing, place)


def find_owner(text: str) -> Solved:
    if " got " in text:
        taker, gift, giver = parsed(r"(\w+) got the (.+) from (\w+)\.", text)
    elif " sent " in text:
        giver, taker, gift = parsed(r"(\w+) sent (\w+) a (.+)\.", text)
    else:
        giver, gift, taker = parsed(r"(\w+) gave the (.+) to (\w+)\.", text)
    return taker, (frozenset((giver, taker)), gift)


def negate(text: str) -> Solved:
    who, auxiliary, rest, state = parsed(STATEMENT, text)
    return f"The {who} {auxiliary} not {rest}.", (who, state)


def ask(text: str) -> Solved:
    who, auxiliary, rest, state = parsed(STATEMENT, text)
    return f"{auxiliary.title()} the {who} {rest}?", (who, state)


def pronoun(text: str) -> Solved:
    who, _, _, state = parsed(STATEMENT, text)
    return text.replace(f"The {who}", "He" if MEN.fullmatch(who) else "She"), (who, state)


def plural(text: str) -> Solved:
    who, auxiliary, rest, state = parsed(STATEMENT, text)
    many = IRREGULAR_PLURALS.get(who, f"{who}s")
    return f"The {many} {pairs('is are was were will will')[auxiliary]} {rest}.", (who, state)


def into_past(text: str) -> Solved:
    who, present, thing = parsed(r"The (\w+) (\w+) the (\w+)\.", text)
    (verb,) = [verb for verb in words.VERBS if present_of(verb) == present]
    return f"The {who} {past_of(verb)} the {thing}.", (who, verb, thing)


def join(text: str) -> Solved:
    start, who, one, two = parsed(r"(The (\w+) (?:is|was|will be)) (\w+)\. \1 (\w+)\.", text)
    return f"{start} {one} and {two}.", (who, frozenset((one, two)))


def contradict(text: str) -> Solved:
    start, who, state = parsed(r"(The (\w+) (?:is|was|will be|looks)) (\w+)\.", text)
    return f"{start} {OPPOSITES[state]}.", (who, frozenset((state, OPPOSITES[state])))


def polite(text: str) -> Solved:
    gift, who = parsed(r"[A-Z]\w+ the (.+) to the (\w+)\.", text)
    return text[:-1] + ", please.", (gift, who)


def count_words(text: str) -> Solved:
    return str(text.count(" ") + 1), frozenset(text.split())


def tense(text: str) -> Solved:
    (form,) = parsed(r"The \w+ ((?:will )?\w+) the \w+\.", text)
    (found,) = [
        (answer, verb)
        for verb in words.VERBS
        for answer, spelt in [("past", past_of(verb)), ("present", present_of(verb)), ("future", f"will {verb}")]
        if spelt == form
    ]
    return found


def compare(text: str) -> Solved:
    first, second = map(int, parsed(r"(\d\d) and (\d\d)", text))
    return ("no", "yes")[first > second], frozenset((first, second))


def convert(text: str) -> Solved:
    number, unit = text.split()
    factor, smaller = SMALLER_UNITS[unit]
    return f"{int(number) * factor} {smaller}", text


def add(text: str) -> Solved:
    first, second = map(int, text.split(" and "))
    return str(first + second), frozenset((first, second))


def spell(text: str) -> Solved:
    assert text.isalpha()
    return re.sub(r"(?<=.)(?=.)", " ", text), text


SOLVERS: dict[str, Callable[[str], Solved]] = {
    solver.__name__: solver
    for solver in (
        *(find_number, find_animal, find_colour, find_place, find_owner),
        *(negate, ask, pronoun, plural, into_past, join, contradict, polite),
        *(count_words, tense, compare),
        *(convert, add, spell),
    )
}


def instance_of(entry: dict[str, str]) -> Hashable:
    if entry["kind"] == "antonym":
        return frozenset((entry["input"], entry["output"]))
    return SOLVERS[entry["kind"]](entry["input"])[1]


# Tests


def test_every_kind_has_a_check() -> None:
    assert set(BY_KIND) == {*SOLVERS, "antonym"}


@pytest.mark.parametrize("kind", SOLVERS)
def test_every_answer_is_right(kind: str) -> None:
    wrong = [entry for entry in BY_KIND[kind] if SOLVERS[kind](entry["input"])[0] != entry["output"]]
    assert wrong == []


def test_opposites_are_mutual_and_unique() -> None:
    opposite = defaultdict(set)
    for entry in BY_KIND["antonym"]:
        opposite[entry["input"]].add(entry["output"])
        opposite[entry["output"]].add(entry["input"])
    assert {word: found for word, found in opposite.items() if len(found) != 1} == {}
    assert not set(opposite) & set(OPPOSITES), "contradict would give the answer away"


def test_opposites_agree_with_a_list_typed_by_hand() -> None:
    asked = {entry["input"]: entry["output"] for entry in BY_KIND["antonym"]}
    both_ways = KNOWN_ANTONYMS | {value: key for key, value in KNOWN_ANTONYMS.items()}
    known = {word: answer for word, answer in asked.items() if word in both_ways}
    assert len(known) > 60
    assert known == {word: both_ways[word] for word in known}


def test_verb_forms_agree_with_the_rules_of_spelling() -> None:
    expected = {verb: (present_of(verb), past_of(verb)) for verb in words.VERBS}
    assert expected == words.VERBS


@pytest.mark.parametrize("kind", BY_KIND)
def test_no_instance_is_in_two_splits(kind: str) -> None:
    splits = defaultdict(set)
    for entry in BY_KIND[kind]:
        splits[instance_of(entry)].add(entry["split"])
    assert [instance for instance, found in splits.items() if len(found) > 1] == []


def test_no_question_is_asked_twice() -> None:
    questions = Counter((entry["instruction"], entry["input"]) for entry in ENTRIES)
    assert [question for question, count in questions.items() if count > 1] == []
    inputs = Counter((entry["kind"], entry["input"]) for entry in ENTRIES)
    assert max(inputs.values()) == 1, "one input under two wordings"


def test_the_set_is_large_enough_to_tune_on_and_small_enough_for_git() -> None:
    sizes = Counter((entry["kind"], entry["split"]) for entry in ENTRIES)
    assert len(BY_KIND) >= 12
    assert len(ENTRIES) >= 1000
    assert min(sizes[kind, "val"] for kind in BY_KIND) >= 20
    assert min(sizes[kind, "test"] for kind in BY_KIND) >= 40
    assert min(sizes[kind, "train"] for kind in BY_KIND) >= 150
    assert FILE.stat().st_size < 3_000_000


def test_entries_are_short() -> None:
    def longest(field: str) -> int:
        return max(len(entry[field].split()) for entry in ENTRIES)

    assert longest("instruction") <= 9
    assert longest("input") <= 12
    assert longest("output") <= 8


@pytest.mark.parametrize("kind", BY_KIND)
def test_no_single_answer_pays(kind: str) -> None:
    answers = Counter(entry["output"] for entry in BY_KIND[kind] if entry["split"] == "test")
    assert max(answers.values()) < 0.65 * answers.total()


@pytest.mark.parametrize(("kind", "labels"), [("compare", 2), ("tense", 3), ("count_words", 5)])
def test_labels_are_equally_frequent(kind: str, labels: int) -> None:
    for split in ("train", "val", "test"):
        counts = Counter(entry["output"] for entry in BY_KIND[kind] if entry["split"] == split)
        assert len(counts) == labels
        assert max(counts.values()) == min(counts.values())


def test_copying_the_most_similar_answer_fails_on_most_kinds() -> None:
    train, test = ([entry for entry in ENTRIES if entry["split"] == split] for split in ("train", "test"))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    known = vectorizer.fit_transform(f"{entry['instruction']} {entry['input']}" for entry in train)
    asked = vectorizer.transform(f"{entry['instruction']} {entry['input']}" for entry in test)
    nearest = (asked @ known.T).toarray().argmax(axis=1)
    right = Counter(e["kind"] for e, at in zip(test, nearest, strict=True) if train[at]["output"] == e["output"])
    asked_of = Counter(entry["kind"] for entry in test)
    assert sum(right[kind] < 0.6 * asked_of[kind] for kind in asked_of) >= 15


def test_the_file_is_what_the_generator_writes(tmp_path: Path) -> None:
    written = tmp_path / "instructions.jsonl"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "pipeline.tasks.instruction_writer", str(written)]
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, timeout=120)
    assert written.read_bytes() == FILE.read_bytes(), (
        "run: python -m pipeline.tasks.instruction_writer data/instructions.jsonl"
    )


def test_a_missing_path_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "pipeline.tasks.instruction_writer"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (64, "")
    assert "usage" in done.stderr


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_pipeline_reads_the_file(split: str) -> None:
    expected = [entry["input"] for entry in ENTRIES if entry["split"] == split]
    assert [entry.input for entry in read_instructions(FILE, split)] == expected

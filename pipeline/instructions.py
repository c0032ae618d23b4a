"""Write the instruction data set: short tasks whose answers can be computed.

Each kind of task is one small function that turns a stream of choices into a question and its answer.  The
choices are hashes of the kind and a counter, so there is no random generator and no seed: the file is the
same on every machine, and adding a kind leaves every other kind's entries as they were.

What must not be shared between the splits is not the wording but the *instance*: the two numbers whatever
their order, the word, the sentence.  Every task names its instance, and the instance alone, again through a
hash, decides between train, val and test.  So no test question has been trained on in another order or
under another wording, and a longer word list never moves an instance from one split to another.

Most kinds are made for a model of a few million parameters and half a minute of tuning: the answer depends
on the particular input (so that copying the answer of the most similar training entry is wrong), but only
on a few of its words.  Some are beyond such a model and are there to show it: opposites, spelling, past
tenses, and the class of a noun can't be worked out from the question.

Costs about a second.  Rejected: a random generator with a seed (its sequence couples all kinds), and
splitting by entry (the same pair of numbers, the other way round, would be both trained on and asked).
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from gptcore.artifact import write_atomically
from pipeline import instruction_words as words

T = TypeVar("T")

ENTRIES = {"train": 400, "val": 20, "test": 40}
"""Entries of each kind, at most; words run out for some kinds in training."""

MAX_DRAWS = 4_000
"""Candidates drawn for a kind before its small pool of instances counts as exhausted."""


class Choices:
    """A stream of even choices that depends on nothing but its name."""

    def __init__(self, name: str):
        self._name = name
        self._drawn = 0

    def below(self, limit: int) -> int:
        """A whole number from 0 to ``limit`` - 1."""
        self._drawn += 1
        return _hash(f"{self._name}#{self._drawn}") % limit

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """``count`` different options in a random order."""
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(count)]


@dataclass(frozen=True)
class Task:
    """One question with its answer."""

    instance: str
    """What the question is about, however it is put: never in two splits."""
    input: str
    output: str


@dataclass(frozen=True)
class Kind:
    """A family of tasks that are solved in the same way."""

    draw: Callable[[Choices], Task]
    instructions: tuple[str, ...]
    """Wordings of what to do; each task gets one of them."""
    labels: tuple[str, ...]
    """All possible answers, each made equally frequent; empty where the answers are open."""
    train: int
    """Entries to train on, at most: more where there is more to learn."""


KINDS: dict[str, Kind] = {}


def kind(
    *instructions: str, labels: tuple[str, ...] = (), train: int = 400
) -> Callable[[Callable[[Choices], Task]], Callable]:
    """Enter the decorated function into ``KINDS`` under its own name."""

    def register(draw: Callable[[Choices], Task]) -> Callable[[Choices], Task]:
        KINDS[draw.__name__] = Kind(draw, instructions, labels, train)
        return draw

    return register


# Numbers


@kind(
    "Is the first number greater than the second?",
    "Is the first number larger? Answer yes or no.",
    "Say yes if the first number is greater.",
    labels=("yes", "no"),
    train=500,
)
def compare(choices: Choices) -> Task:
    first, second = choices.sample(range(10, 100), 2)
    return Task(_unordered(first, second), f"{first} and {second}", "yes" if first > second else "no")


@kind("Add the two numbers.", "What is the sum?", "How much is this together?", train=300)
def add(choices: Choices) -> Task:
    first, second = choices.between(10, 99), choices.between(1, 9)
    return Task(_unordered(first, second), f"{first} and {second}", str(first + second))


@kind("Change this to the smaller unit.", "Say it in the smaller unit.", "Write this in the smaller unit.")
def convert(choices: Choices) -> Task:
    large, small, factor = choices.pick(
        [("metres", "centimetres", 100), ("kilometres", "metres", 1000), ("kilograms", "grams", 1000)]
    )
    number = choices.between(10, 99)
    return Task(f"{number} {large}", f"{number} {large}", f"{number * factor} {small}")


@kind("How many are there?", "Which number is in the sentence?", "Find the number in the sentence.")
def find_number(choices: Choices) -> Task:
    number = choices.between(10, 99)
    who, where, what = choices.pick(words.PEOPLE), choices.pick(words.PLACES), choices.pick(words.PLURALS)
    sentence = choices.pick(
        [
            f"The {who} saw {number} {what} near the {where}.",
            f"In the {where} the {who} found {number} {what}.",
            f"There were {number} {what} in the {where}.",
            f"The {who} sold {number} {what} and went home.",
        ]
    )
    return Task(sentence, sentence, str(number))


# Words in a list


@kind("How many words are there?", "Count the words.", "Say how many words you see.", labels=tuple("23456"), train=500)
def count_words(choices: Choices) -> Task:
    listed = choices.sample(words.NOUNS, choices.between(2, 6))
    return Task(_unordered(*listed), " ".join(listed), str(len(listed)))


# Sentences


@kind("Who gets the thing?", "Who has it in the end?", "Say the name of the new owner.")
def receiver(choices: Choices) -> Task:
    giver, taker = choices.sample(words.NAMES, 2)
    adjective, thing = choices.pick(words.ADJECTIVES), choices.pick(words.THINGS)
    sentence = choices.pick(
        [
            f"{giver} gave the {adjective} {thing} to {taker}.",
            f"{giver} sent {taker} a {adjective} {thing}.",
            f"{taker} got the {adjective} {thing} from {giver}.",
            f"{taker} took a {adjective} {thing} from {giver}.",
        ]
    )
    return Task(sentence, sentence, taker)


@kind("Make the sentence negative.", "Say that it is not so.", "Put the word not into the sentence.", train=300)
def negate(choices: Choices) -> Task:
    verb = choices.pick(["is", "was", "will be", "could be", "should be"])
    auxiliary, *rest = verb.split()
    who, state = choices.pick(words.PEOPLE), choices.pick(words.STATES)
    end = " ".join([*rest, state])
    sentence = f"The {who} {auxiliary} {end}."
    return Task(sentence, sentence, f"The {who} {auxiliary} not {end}.")


@kind("Where does it happen?", "Where is it?", "Find the place in the sentence.", train=300)
def where(choices: Choices) -> Task:
    who, verb, thing = (
        choices.pick(words.PEOPLE),
        choices.pick(["saw", "found", "lost", "hid"]),
        choices.pick(words.THINGS),
    )
    place = f"{choices.pick(['in', 'near', 'behind', 'before'])} the {choices.pick(words.PLACES)}"
    sentence = f"The {who} {verb} the {thing} {place}."
    return Task(sentence, sentence, place)


@kind("Say the opposite.", "Change it to the contrary.", "Use the opposite word.")
def contradict(choices: Choices) -> Task:
    state, opposite = choices.sample(choices.pick(words.OPPOSITE_STATES), 2)
    frame = f"The {choices.pick(words.PEOPLE + words.ANIMALS)} {choices.pick(['is', 'was', 'will be', 'looks'])}"
    return Task(f"{frame} {_unordered(state, opposite)}", f"{frame} {state}.", f"{frame} {opposite}.")


@kind("Make it a question.", "Turn the sentence into a question.", "Ask it.")
def ask(choices: Choices) -> Task:
    auxiliary, *rest = choices.pick(["is", "was", "will be", "could be", "should be"]).split()
    who, state = choices.pick(words.PEOPLE), choices.pick(words.STATES)
    told = " ".join(["The", who, auxiliary, *rest, state]) + "."
    asked = " ".join([auxiliary.capitalize(), "the", who, *rest, state]) + "?"
    return Task(told, told, asked)


@kind("Put he or she for the person.", "Use he or she instead.", "Say it with he or she.")
def pronoun(choices: Choices) -> Task:
    word, people = choices.pick([("He", words.MEN), ("She", words.WOMEN)])
    end = f"{choices.pick(['is', 'was', 'will be', 'could be', 'should be'])} {choices.pick(words.STATES)}."
    sentence = f"The {choices.pick(people)} {end}"
    return Task(sentence, sentence, f"{word} {end}")


@kind("Which colour is it?", "Find the colour.", "Say the colour.", train=300)
def colour(choices: Choices) -> Task:
    who, what, where = (
        choices.pick(words.PEOPLE),
        choices.pick(words.ANIMALS + words.THINGS),
        choices.pick(words.PLACES),
    )
    shade = choices.pick(words.COLOURS)
    sentence = choices.pick(
        [f"The {who} saw the {shade} {what} in the {where}.", f"The {shade} {what} is in the {where}."]
    )
    return Task(sentence, sentence, shade)


@kind("Say it of many.", "Make it more than one.", "Put the sentence into the plural.")
def plural(choices: Choices) -> Task:
    animal, state = choices.pick(words.ANIMALS), choices.pick(words.STATES)
    one, many = choices.pick([("is", "are"), ("was", "were"), ("will be", "will be")])
    sentence = f"The {animal} {one} {state}."
    return Task(sentence, sentence, f"The {words.ANIMAL_PLURALS[animal]} {many} {state}.")


@kind("Put it into the past.", "Say that it happened long ago.", "Write it in the past tense.")
def into_past(choices: Choices) -> Task:
    verb, thing = choices.pick(words.COMMON_VERBS), choices.pick(words.THINGS)
    present, past = words.TRANSITIVE_VERBS[verb]
    frame = f"The {choices.pick(words.PEOPLE)} {{}} the {thing}."
    return Task(frame + verb, frame.format(present), frame.format(past))


@kind("Join the two sentences.", "Make one sentence of the two.", "Say both in one sentence.")
def join(choices: Choices) -> Task:
    start = f"The {choices.pick(words.PEOPLE)} {choices.pick(['is', 'was', 'will be'])}"
    one, two = choices.sample(words.STATES, 2)
    return Task(f"{start} {_unordered(one, two)}", f"{start} {one}. {start} {two}.", f"{start} {one} and {two}.")


@kind("Make the command polite.", "Ask for it politely.", "Say please at the end.", train=300)
def polite(choices: Choices) -> Task:
    verb = choices.pick(["Bring", "Give", "Show", "Send", "Carry", "Sell"])
    adjective, thing, who = choices.pick(words.ADJECTIVES), choices.pick(words.THINGS), choices.pick(words.PEOPLE)
    command = f"{verb} the {adjective} {thing} to the {who}"
    return Task(command, f"{command}.", f"{command}, please.")


@kind(
    "Is this past, present or future?",
    "Say when it happens: past, present or future.",
    "Which time is the sentence in?",
    labels=("past", "present", "future"),
)
def tense(choices: Choices) -> Task:
    who, thing = choices.pick(words.PEOPLE), choices.pick(words.THINGS)
    verb = choices.pick(list(words.TRANSITIVE_VERBS))
    present, past = words.TRANSITIVE_VERBS[verb]
    answer, form = choices.pick([("past", past), ("present", present), ("future", f"will {verb}")])
    return Task(verb, f"The {who} {form} the {thing}.", answer)


# Words: what they mean and how they are spelt has to be known


@kind("Which word is an animal?", "Find the animal.", "Say the name of the animal.", train=300)
def find_animal(choices: Choices) -> Task:
    animal = choices.pick(words.ANIMALS)
    listed = [animal, choices.pick(words.PEOPLE), choices.pick(words.PLACES), choices.pick(words.THINGS)]
    return Task(_unordered(*listed), " ".join(choices.sample(listed, 4)), animal)


@kind("What is the opposite?", "Say the opposite word.", "Give the word that means the contrary.")
def antonym(choices: Choices) -> Task:
    word, opposite = choices.sample(choices.pick(words.ANTONYMS), 2)
    return Task(_unordered(word, opposite), word, opposite)


@kind("Spell the word.", "Write the letters one by one.", "Which letters are in the word?")
def spell(choices: Choices) -> Task:
    word = choices.pick(words.SPELLABLE)
    return Task(word, word, " ".join(word))


def entries(name: str) -> Iterator[dict[str, str]]:
    """The entries of one kind, in the order in which they are drawn."""
    task_kind, taken, inputs = KINDS[name], Counter[tuple[str, str]](), set[str]()
    sizes = {**ENTRIES, "train": task_kind.train}
    shares = {split: -(-size // max(1, len(task_kind.labels))) for split, size in sizes.items()}
    for index in range(MAX_DRAWS):
        choices = Choices(f"{name}/{index}")
        task, instruction = task_kind.draw(choices), choices.pick(task_kind.instructions)
        split = split_of(name, task.instance)
        label = task.output if task_kind.labels else ""
        if task.input in inputs or taken[split, label] == shares[split]:
            continue
        inputs.add(task.input)
        taken[split, label] += 1
        yield {"instruction": instruction, "input": task.input, "output": task.output, "kind": name, "split": split}


def split_of(name: str, instance: str) -> str:
    """One instance in ten is for val, two are for test."""
    return ("val", "test", "test", *["train"] * 7)[_hash(f"split/{name}/{instance}") % 10]


def render() -> str:
    """The whole file: ordered by kind and split, so that a change to one kind is one hunk."""
    ordered = [
        entry
        for name in KINDS
        for entry in sorted(entries(name), key=lambda entry: list(ENTRIES).index(entry["split"]))
    ]
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in ordered)


def _hash(text: str) -> int:
    return int.from_bytes(sha256(text.encode("utf-8")).digest()[:8], "big")


def _unordered(*parts: object) -> str:
    return " ".join(sorted(map(str, parts)))


if __name__ == "__main__":
    write_atomically(Path(sys.argv[1]), render().encode("utf-8"))

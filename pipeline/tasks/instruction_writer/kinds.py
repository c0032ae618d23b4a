"""The kinds of task in the instruction data set, each a function from choices to a question and its answer.

Most kinds are made for a model of a few million parameters and half a minute of tuning: the answer depends
on the particular input, so that copying the answer of the most similar training entry is wrong, but only on
a few words of it.  Some are beyond such a model and are there to show it: sums, opposites and spelling
can't be read off the question.

An *instance* is what a question is about, however it is put: the two numbers in either order, the person
and what is said of them in any tense.  It names no more than the answer turns on, for it alone decides which
split a task is in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from gptcore.artifact import sha256_text
from pipeline.tasks.instruction_writer import words

T = TypeVar("T")


class Choices:
    """A stream of even choices that depends on nothing but its name.

    A hash takes the place of a random generator, whose one sequence would couple all tasks: an entry added
    here would change every entry behind it.
    """

    def __init__(self, name: str):
        self._name = name
        self._made = 0

    def below(self, limit: int) -> int:
        """A whole number from 0 to ``limit`` - 1."""
        self._made += 1
        return int(sha256_text(f"{self._name}#{self._made}")[:16], 16) % limit

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """``count`` different options in any order."""
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(count)]


@dataclass(frozen=True)
class Task:
    """One question with its answer."""

    instance: str
    """What the question is about, however it is put: never in two splits."""
    input: str
    output: str


Draw: TypeAlias = Callable[[Choices], Task]


@dataclass(frozen=True)
class Kind:
    """A family of tasks that are solved in the same way."""

    draw: Draw
    instructions: tuple[str, ...]
    """Wordings of what to do; each task gets one of them."""
    labels: tuple[str, ...]
    """All possible answers, each made equally frequent; empty where the answers are open."""
    train: int
    """Entries to train on, at most: more where there is more to learn."""


KINDS: dict[str, Kind] = {}


def kind(*instructions: str, train: int, labels: tuple[str, ...] = ()) -> Callable[[Draw], Draw]:
    """Enter the decorated function into ``KINDS`` under its own name."""

    def register(draw: Draw) -> Draw:
        KINDS[draw.__name__] = Kind(draw, instructions, labels, train)
        return draw

    return register


def unordered(*parts: object) -> str:
    """The parts as one name that is the same in every order of them."""
    return " ".join(sorted(map(str, parts)))


# Pick out one part of the input


@kind("How many are there?", "Which number is in the sentence?", "Find the number in the sentence.", train=400)
def find_number(choices: Choices) -> Task:
    number, counted = choices.between(10, 99), choices.pick(words.COUNTED)
    who, place = choices.pick(words.PEOPLE), choices.pick(words.PLACES)
    sentence = choices.pick(
        [
            f"The {who} saw {number} {counted} near the {place}.",
            f"In the {place} the {who} found {number} {counted}.",
            f"There were {number} {counted} in the {place}.",
            f"The {who} sold {number} {counted} and went home.",
        ]
    )
    return Task(f"{number} {counted}", sentence, str(number))


@kind("Which word is an animal?", "Find the animal.", "Say the name of the animal.", train=250)
def find_animal(choices: Choices) -> Task:
    animal = choices.pick(words.ANIMALS)
    listed = [animal, choices.pick(words.PEOPLE), choices.pick(words.PLACES), choices.pick(words.THINGS)]
    return Task(unordered(*listed), " ".join(choices.sample(listed, len(listed))), animal)


@kind("Which colour is it?", "Find the colour.", "Say the colour.", train=250)
def find_colour(choices: Choices) -> Task:
    colour, thing = choices.pick(words.COLOURS), choices.pick((*words.ANIMALS, *words.THINGS))
    who, place = choices.pick(words.PEOPLE), choices.pick(words.PLACES)
    sentence = choices.pick(
        [f"The {who} saw the {colour} {thing} in the {place}.", f"The {colour} {thing} is in the {place}."]
    )
    return Task(f"{colour} {thing}", sentence, colour)


@kind("Where does it happen?", "Where is it?", "Find the place in the sentence.", train=250)
def find_place(choices: Choices) -> Task:
    who, thing, place = choices.pick(words.PEOPLE), choices.pick(words.THINGS), choices.pick(words.PLACES)
    verb, preposition = choices.pick(["saw", "found", "lost", "hid"]), choices.pick(["in", "near", "behind", "before"])
    answer = f"{preposition} the {place}"
    return Task(f"{who} {thing} {place}", f"The {who} {verb} the {thing} {answer}.", answer)


@kind("Who gets the thing?", "Who has it in the end?", "Say the name of the new owner.", train=500)
def find_owner(choices: Choices) -> Task:
    giver, taker = choices.sample(words.NAMES, 2)
    gift = f"{choices.pick(words.ADJECTIVES)} {choices.pick(words.THINGS)}"
    sentence = choices.pick(
        [
            f"{giver} gave the {gift} to {taker}.",
            f"{giver} sent {taker} a {gift}.",
            f"{taker} got the {gift} from {giver}.",
        ]
    )
    return Task(f"{unordered(giver, taker)} {gift}", sentence, taker)


# Say it in another way


@kind("Make the sentence negative.", "Say that it is not so.", "Put the word not into the sentence.", train=300)
def negate(choices: Choices) -> Task:
    who, auxiliary, rest, state = _statement(choices, words.PEOPLE)
    told = f"The {who} {auxiliary} {rest}{state}."
    return Task(f"{who} {state}", told, f"The {who} {auxiliary} not {rest}{state}.")


@kind("Make it a question.", "Turn the sentence into a question.", "Ask if this is true.", train=300)
def ask(choices: Choices) -> Task:
    who, auxiliary, rest, state = _statement(choices, words.PEOPLE)
    told = f"The {who} {auxiliary} {rest}{state}."
    return Task(f"{who} {state}", told, f"{auxiliary.capitalize()} the {who} {rest}{state}?")


@kind("Put he or she for the person.", "Use he or she instead.", "Say it with he or she.", train=400)
def pronoun(choices: Choices) -> Task:
    pronoun, people = choices.pick([("He", words.MEN), ("She", words.WOMEN)])
    who, auxiliary, rest, state = _statement(choices, people)
    end = f"{auxiliary} {rest}{state}."
    return Task(f"{who} {state}", f"The {who} {end}", f"{pronoun} {end}")


@kind("Say it of many.", "Make it more than one.", "Put the sentence into the plural.", train=400)
def plural(choices: Choices) -> Task:
    animal, state = choices.pick(words.ANIMALS), choices.pick(words.STATES)
    one, many = choices.pick([("is", "are"), ("was", "were"), ("will be", "will be")])
    answer = f"The {words.ANIMAL_PLURALS[animal]} {many} {state}."
    return Task(f"{animal} {state}", f"The {animal} {one} {state}.", answer)


@kind("Put it into the past.", "Say that it happened long ago.", "Write it in the past tense.", train=300)
def into_past(choices: Choices) -> Task:
    who, thing, verb = choices.pick(words.PEOPLE), choices.pick(words.THINGS), choices.pick(words.COMMON_VERBS)
    present, past = words.VERBS[verb]
    return Task(f"{who} {verb} {thing}", f"The {who} {present} the {thing}.", f"The {who} {past} the {thing}.")


@kind("Join the two sentences.", "Make one sentence of the two.", "Say both in one sentence.", train=400)
def join(choices: Choices) -> Task:
    who, (one, two) = choices.pick(words.PEOPLE), choices.sample(words.STATES, 2)
    start = f"The {who} {choices.pick(['is', 'was', 'will be'])}"
    return Task(f"{who} {unordered(one, two)}", f"{start} {one}. {start} {two}.", f"{start} {one} and {two}.")


@kind("Say the opposite.", "Change it to the contrary.", "Use the opposite word.", train=500)
def contradict(choices: Choices) -> Task:
    who, verb = choices.pick((*words.PEOPLE, *words.ANIMALS)), choices.pick(["is", "was", "will be", "looks"])
    state, opposite = choices.sample(choices.pick(words.OPPOSITE_STATES), 2)
    return Task(f"{who} {unordered(state, opposite)}", f"The {who} {verb} {state}.", f"The {who} {verb} {opposite}.")


@kind("Make the command polite.", "Ask for it politely.", "Say please at the end.", train=250)
def polite(choices: Choices) -> Task:
    verb, who = choices.pick(["Bring", "Give", "Show", "Send", "Carry", "Sell"]), choices.pick(words.PEOPLE)
    gift = f"{choices.pick(words.ADJECTIVES)} {choices.pick(words.THINGS)}"
    command = f"{verb} the {gift} to the {who}"
    return Task(f"{gift} {who}", f"{command}.", f"{command}, please.")


# Judge the input


@kind("How many words are there?", "Count the words.", "Say how many words you see.", train=500, labels=tuple("23456"))
def count_words(choices: Choices) -> Task:
    listed = choices.sample(words.NOUNS, choices.between(2, 6))
    return Task(unordered(*listed), " ".join(listed), str(len(listed)))


@kind(
    "Is this past, present or future?",
    "Say when it happens: past, present or future.",
    "Which time is the sentence in?",
    train=402,
    labels=("past", "present", "future"),
)
def tense(choices: Choices) -> Task:
    who, thing, verb = choices.pick(words.PEOPLE), choices.pick(words.THINGS), choices.pick(list(words.VERBS))
    present, past = words.VERBS[verb]
    answer, form = choices.pick([("past", past), ("present", present), ("future", f"will {verb}")])
    return Task(verb, f"The {who} {form} the {thing}.", answer)


@kind(
    "Is the first number greater than the second?",
    "Is the first number larger? Answer yes or no.",
    "Say yes if the first number is greater.",
    train=400,
    labels=("yes", "no"),
)
def compare(choices: Choices) -> Task:
    first, second = choices.sample(range(10, 100), 2)
    return Task(unordered(first, second), f"{first} and {second}", "yes" if first > second else "no")


# Calculate, or know


@kind("Change this to the smaller unit.", "Say it in the smaller unit.", "Write this in the smaller unit.", train=280)
def convert(choices: Choices) -> Task:
    large, small, factor = choices.pick(words.UNITS)
    number = choices.between(10, 99)
    return Task(f"{number} {large}", f"{number} {large}", f"{number * factor} {small}")


@kind("Add the two numbers.", "What is the sum?", "How much is this together?", train=300)
def add(choices: Choices) -> Task:
    first, second = choices.between(10, 99), choices.between(1, 9)
    return Task(unordered(first, second), f"{first} and {second}", str(first + second))


@kind("What is the opposite?", "Give the opposite of the word.", "Which word means the contrary?", train=240)
def antonym(choices: Choices) -> Task:
    word, opposite = choices.sample(choices.pick(words.ANTONYMS), 2)
    return Task(unordered(word, opposite), word, opposite)


@kind("Spell the word.", "Write the letters one by one.", "Which letters are in the word?", train=180)
def spell(choices: Choices) -> Task:
    word = choices.pick(words.SPELLABLE)
    return Task(word, word, " ".join(word))


def _statement(choices: Choices, people: Sequence[str]) -> tuple[str, str, str, str]:
    """Who, the auxiliary verb, what follows it, and what they are."""
    auxiliary, rest = choices.pick([("is", ""), ("was", ""), ("will", "be "), ("could", "be "), ("should", "be ")])
    return choices.pick(people), auxiliary, rest, choices.pick(words.STATES)

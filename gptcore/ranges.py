"""What a field of a configuration may hold, stated beside the field.

    @dataclass(frozen=True)
    class Windows(Checked):
        context_length: Annotated[int, Whole(1, 1_048_576)]
        stride: Annotated[int, Whole(1, 1_048_576)]

        @relation("stride", "context_length")
        def _covers_all_text(self) -> str | None: ...

A `Checked` dataclass refuses what it may not hold when it is made, with every problem at once.  ``problems`` answers
the same for fields that are not a whole configuration yet: whoever parses a file can then tell what is out of range
beside what is of the wrong type.  What relates several fields is asked only where each of them is right.

Rejected: pydantic's constraints (this library does not depend on it, and is used without a parser), and tests in each
``__post_init__`` (a field was easily forgotten, and a wrong type hid every range).
"""

import dataclasses
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Protocol, TypeVar

from gptcore.untrusted import shown

Method = TypeVar("Method", bound=Callable[[Any], str | None])


class Rule(Protocol):
    """What one field may hold."""

    def problem(self, name: str, value: Any) -> str | None:
        """What is wrong with the value, in words that begin with the field's name; None if nothing is."""


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number, both ends included."""

    low: int
    high: int

    def problem(self, name: str, value: Any) -> str | None:
        right = isinstance(value, Integral) and not isinstance(value, bool)
        return None if right and self.low <= value <= self.high else wrong(name, value, str(self))

    def __str__(self) -> str:
        return f"a whole number in {self.low:,} … {self.high:,}"


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number between two ends, each included unless it is said to be ``open``."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def problem(self, name: str, value: Any) -> str | None:
        right = isinstance(value, Real) and not isinstance(value, bool)
        return None if right and self._holds(value) else wrong(name, value, str(self))

    def _holds(self, value: Any) -> bool:  # which is False of NaN
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if not (self.open_low or self.open_high):
            return f"a number in {self.low:,g} … {self.high:,g}"
        low, high = "above" if self.open_low else "of at least", "below" if self.open_high else "at most"
        return f"a number {low} {self.low:,g} and {high} {self.high:,g}"


@dataclasses.dataclass(frozen=True)
class Switch:
    """True or false, for which neither 1 nor "yes" stands."""

    def problem(self, name: str, value: Any) -> str | None:
        return None if isinstance(value, bool) else wrong(name, value, "true or false")


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of some words; where others can add to them, a function that tells which there are."""

    words: Collection[str] | Callable[[], Collection[str]]

    def problem(self, name: str, value: Any) -> str | None:
        return None if isinstance(value, str) and value in self.known() else wrong(name, value, str(self))

    def known(self) -> Collection[str]:
        return self.words() if callable(self.words) else self.words

    def __str__(self) -> str:
        known = self.known()
        return " or ".join(known) if len(known) == 2 else f"one of {', '.join(known)}"


@dataclasses.dataclass(frozen=True)
class Each:
    """A list whose members obey a rule, if there is one."""

    rule: Rule | None = None
    not_empty: bool = True
    different: bool = True
    """No member is there twice."""

    def problem(self, name: str, value: Any) -> str | None:
        if not isinstance(value, list | tuple):
            return wrong(name, value, "a list")
        if self.rule and (bad := [each for each in value if self.rule.problem(name, each)]):
            if isinstance(self.rule, OneOf):
                return f"{name}: expected {self._members()}, found {', '.join(map(shown, bad[:10]))}"
            return wrong(name, value, self._members())
        if self.not_empty and not value:
            return wrong(name, value, f"at least one: {self._members()}")
        if self.different and any(each in value[:place] for place, each in enumerate(value)):
            return wrong(name, value, "no two that are equal")
        return None

    def _members(self) -> str:
        if isinstance(self.rule, OneOf):
            return f"some of {', '.join(self.rule.known())}"
        return f"each to be {self.rule}" if self.rule else "anything"


LATER = "later"
"""Marks, in the metadata of a dataclass' field, an option that a later version added: a record of a configuration
names it only where it is used."""


def later(default: Any) -> Any:
    """A field with this default that is marked ``LATER``."""
    return dataclasses.field(default=default, metadata={LATER: True})


Batch = Annotated[int, Whole(1, 65_536)]
"""Rows of a batch."""
Context = Annotated[int, Whole(1, 1_048_576)]
"""Tokens of one text."""
Seed = Annotated[int, Whole(0, 2**63 - 1)]
"""What PyTorch's generators take."""
Steps = Annotated[int, Whole(1, 1_000_000_000)]


def wrong(name: str, value: Any, expected: str) -> str:
    """The one form of these messages."""
    return f"{name} = {shown(value)}: expected {expected}"


def relation(*fields: str) -> Callable[[Method], Method]:
    """Marks a method that tells what is wrong between these fields, or None; called where each of them is right."""

    def mark(method: Method) -> Method:
        method.relates = fields  # type: ignore[attr-defined]
        return method

    return mark


class OutOfRange(ValueError):
    """A configuration that may not be; carries its problems one by one."""

    def __init__(self, found: Iterable[str]) -> None:
        self.problems = list(found)
        super().__init__("; ".join(self.problems))


class Checked:
    """A dataclass that refuses what its fields may not hold."""

    def __post_init__(self) -> None:
        if found := problems(type(self), vars(self)):
            raise OutOfRange(found.values())


def problems(kind: type, values: Mapping[str, Any], unknown: Collection[str] = ()) -> dict[str, str]:
    """Field, or fields with commas between → what is wrong with it.

    A field without a value has its default, if there is one and it is not among the ``unknown``.
    """
    told = ((name, rule.problem(name, values[name])) for name, rule in rules(kind).items() if name in values)
    found = {name: problem for name, problem in told if problem}
    known = {n: v for n, v in (_defaults(kind) | dict(values)).items() if n not in found and n not in unknown}
    subject: Any = object.__new__(kind)
    vars(subject).update(known)
    for fields, method in _relations(kind):
        if set(fields) <= set(known) and (problem := method(subject)):
            found[", ".join(fields)] = problem
    return found


@cache
def rules(kind: type) -> dict[str, Rule]:
    """Field → its rule, of every field that states one."""
    hints = typing.get_type_hints(kind, include_extras=True)
    stated = {f.name: getattr(hints[f.name], "__metadata__", ()) for f in dataclasses.fields(kind)}
    return {name: rule for name, notes in stated.items() for rule in notes if hasattr(rule, "problem")}


@cache
def _relations(kind: type) -> list[tuple[tuple[str, ...], Callable[[Any], str | None]]]:
    methods = {name: method for base in reversed(kind.__mro__) for name, method in vars(base).items()}
    return [(method.relates, method) for method in methods.values() if hasattr(method, "relates")]


def _defaults(kind: type) -> dict[str, Any]:
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    made = {f.name: f.default_factory() for f in fields if f.default_factory is not missing}
    return {f.name: f.default for f in fields if f.default is not missing} | made

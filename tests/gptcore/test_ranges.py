"""A configuration says beside each field what it may hold, and refuses the rest, all of it at once."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest

from gptcore.ranges import Checked, Each, Number, OneOf, OutOfRange, Whole, problems, relation


@dataclass(frozen=True)
class Cake(Checked):
    slices: Annotated[int, Whole(1, 12)]
    guests: Annotated[int, Whole(0, 1_000)]
    sugar: Annotated[float, Number(0, 1, open_high=True)] = 0.5
    kind: Annotated[str, OneOf(("plum", "nut", "cheese"))] = "plum"
    hours: Annotated[list[int], Each(Whole(0, 23))] = (15,)  # type: ignore[assignment]

    @relation("slices", "guests")
    def _everybody_has_one(self) -> str | None:
        return f"slices = {self.slices}: fewer than guests = {self.guests}" if self.slices < self.guests else None

    @relation("kind", "sugar")
    def _nuts_are_sweet(self) -> str | None:
        return "sugar: nut cake has less" if self.kind == "nut" and self.sugar > 0.7 else None


def told(**fields: object) -> list[str]:
    with pytest.raises(OutOfRange) as caught:
        Cake(**fields)  # type: ignore[arg-type]
    assert str(caught.value) == "; ".join(caught.value.problems)
    return caught.value.problems


def test_the_ends_belong_to_the_range_unless_they_are_open():
    assert Cake(1, 0, 0.0)
    assert Cake(12, 12, 0.999)
    assert told(slices=0, guests=0) == ["slices = 0: expected a whole number in 1 … 12"]
    assert told(slices=13, guests=1_001, sugar=1.0) == [
        "slices = 13: expected a whole number in 1 … 12",
        "guests = 1001: expected a whole number in 0 … 1,000",
        "sugar = 1.0: expected a number of at least 0 and below 1",
    ]


@pytest.mark.parametrize("value", [True, 2.0, "2", None, [2], 10**5000, float("nan")], ids=type)
def test_a_whole_number_is_one(value: object):
    (problem,) = told(slices=value, guests=0)
    assert problem.startswith("slices = ")
    assert problem.endswith("expected a whole number in 1 … 12")
    assert len(problem) < 200


@pytest.mark.parametrize("value", [True, "0.1", None, float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_number_is_finite(value: object):
    assert len(told(slices=1, guests=0, sugar=value)) == 1


def test_numbers_of_numpy_are_numbers():
    assert Cake(np.int64(3), np.int64(2), np.float32(0.25))  # type: ignore[arg-type]


def test_lists_hold_different_members_that_obey():
    assert told(slices=1, guests=0, hours=[24, 3]) == ["hours = [24, 3]: expected each to be a whole number in 0 … 23"]
    assert told(slices=1, guests=0, hours=[3, 3]) == ["hours = [3, 3]: expected no two that are equal"]
    assert "at least one" in told(slices=1, guests=0, hours=[])[0]
    assert told(slices=1, guests=0, hours=3) == ["hours = 3: expected a list"]


def test_a_relation_is_asked_where_its_fields_are_right_and_there():
    assert told(slices=2, guests=3, kind="fruit") == [
        "kind = 'fruit': expected one of plum, nut, cheese",
        "slices = 2: fewer than guests = 3",
    ]
    assert told(slices=20, guests=3) == ["slices = 20: expected a whole number in 1 … 12"]
    assert problems(Cake, {"kind": "nut", "sugar": 0.9}) == {"kind, sugar": "sugar: nut cake has less"}
    assert problems(Cake, {"kind": "nut", "guests": 4}) == {}, "the default of sugar is in order"
    assert problems(Cake, {"kind": "nut"}, unknown=["sugar"]) == {}

"""Classes of values are dataclasses like those of Python, though nothing is compiled for them."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from bmz.base.values import dataclass


def classes(made_by: Callable[..., Any]) -> SimpleNamespace:
    """Make the same classes by one of the two decorators."""

    @made_by(frozen=True)
    class Size:
        """A size."""

        height: int
        width: int = 3
        names: list[str] = field(default_factory=list, compare=False, repr=False)
        unit: ClassVar[str] = "px"

        def __post_init__(self) -> None:
            if self.height < 0:
                raise ValueError("below 0")

    @made_by(frozen=True)
    class Box(Size):
        """A size with a depth."""

        depth: float = field(default=1.5, kw_only=True)
        known: dict[str, int] = field(default_factory=dict, init=False)

    @made_by(frozen=True)
    class One:
        """A single field."""

        value: object

    @made_by
    class Counter:
        """A value that changes."""

        count: int = 0

        def __repr__(self) -> str:
            return f"{self.count} so far"

    return SimpleNamespace(size=Size, box=Box, one=One, counter=Counter)


NAN = float("nan")

BUILDS: dict[str, Callable[[Any], object]] = {
    "text": lambda k: repr(k.size(1)).replace("classes.<locals>.", ""),
    "equal": lambda k: k.size(1, names=["a"]) == k.size(1, 3, ["b"]),
    "unequal": lambda k: k.size(1) == k.size(2),
    "of a child class": lambda k: k.size(1) == k.box(1),
    "hash": lambda k: hash(k.size(1)) == hash((1, 3)),
    "a list for each": lambda k: k.size(1).names is k.size(1).names,
    "one missing": lambda k: k.size(),
    "one too many": lambda k: k.size(1, 2, [], 4),
    "a strange name": lambda k: k.size(1, breadth=2),
    "refused": lambda k: k.size(-1),
    "set": lambda k: setattr(k.size(1), "height", 2),
    "deleted": lambda k: delattr(k.size(1), "height"),
    "another set": lambda k: setattr(k.size(1), "other", 2),
    "fields": lambda k: [f.name for f in dataclasses.fields(k.size)],
    "as a dict": lambda k: dataclasses.asdict(k.size(1)),
    "replaced": lambda k: dataclasses.replace(k.size(1), width=9) == k.size(1, 9),
    "matched": lambda k: k.size.__match_args__,
    "child as a dict": lambda k: dataclasses.asdict(k.box(1, depth=2)),
    "by name alone": lambda k: k.box(1, 2, [], 2.0),
    "not to be given": lambda k: k.box(1, known={}),
    "a dict for each": lambda k: k.box(1).known is k.box(1).known,
    "a child is set": lambda k: setattr(k.box(1), "height", 2),
    "two that are no number": lambda k: k.one(float("nan")) == k.one(float("nan")),
    "hash of one": lambda k: hash(k.one(7)),
    "hash of a list": lambda k: hash(k.one([])),
    "own text": lambda k: repr(k.counter(4)),
    "by default": lambda k: k.counter() == k.counter(0),
    "no hash": lambda k: hash(k.counter()),
    "changes": lambda k: setattr(k.counter(), "count", 1),
}


def told(build: Callable[[Any], object], made: SimpleNamespace) -> object:
    """Give what is built, or how it failed."""
    try:
        return build(made)
    except (TypeError, ValueError, FrozenInstanceError) as error:
        return type(error)


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_a_value_behaves_as_one_of_pythons_dataclasses(build: Callable[[Any], object]) -> None:
    assert told(build, classes(dataclass)) == told(build, classes(dataclasses.dataclass))


def test_values_that_hold_the_same_nan_are_equal_on_every_python() -> None:
    """Python's dataclasses compare so up to 3.12; from 3.13 on a field is not equal to itself."""
    made = classes(dataclass)

    assert made.one(NAN) == made.one(NAN)
    assert made.one(NAN) != made.one(float("nan"))


@dataclass(frozen=True)
class Kept:
    """A value that is sent to another process."""

    number: int


def test_a_value_that_was_sent_is_the_same_before_any_was_made_here() -> None:
    sent = pickle.dumps(Kept(3))

    back = pickle.loads(sent)  # noqa: S301  (our own)

    assert back == Kept(3)
    assert repr(back) == "Kept(number=3)"
    with pytest.raises(FrozenInstanceError):
        back.number = 4

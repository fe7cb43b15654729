"""Parameters of recipes: what a word or a description may say, and the words of a refusal."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.process.object_columns import scored
from bmz.process.recipe import FINISH, Finish, Knob, Labelled, ParameterRefused, Recipe, Value
from bmz.process.recipes import RECIPES


@dataclass(frozen=True)
class PartSettings:
    share: Annotated[float, Knob("a share", 0, 1)] = 0.5
    count: Annotated[int, Knob("a number", 1)] = 3
    depth: Annotated[float, Knob("below the ground", high=0)] = 0.0
    deep: Annotated[bool, Knob("a truth")] = True
    min_size: Annotated[int, Knob("its own smallest object", 0)] = 7
    way: Annotated[str, Knob("a word", choices=("near", "far"))] = "near"
    note: Annotated[str, Knob("any text")] = ""


def parts(output: AnyArray, grid: tuple[int, ...], settings: PartSettings) -> Labelled:
    """Label nothing, and give what it was asked as scores."""
    del grid
    words = np.array([value for _, value in sorted(vars(settings).items())], np.float32)
    return Labelled(np.zeros(output.shape[1:], np.int32), scored(words))


PARTS = Recipe(
    name="parts",
    what="nothing",
    source="none",
    label=parts,
    settings=PartSettings,
)


def read(**words: str) -> dict[str, Value]:
    return PARTS.parameters_from({}, words)


def refusal(given: dict[str, Value], words: dict[str, str]) -> str:
    with pytest.raises(ParameterRefused) as raised:
        PARTS.parameters_from(given, words)
    return raised.value.message.removeprefix("recipe 'parts' cannot take --set ")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (None, None, "any"),
        (0, None, "0 or more"),
        (None, 1.5, "1.5 or less"),
        (-1, 0.25, "-1 to 0.25"),
    ],
)
def test_a_range_is_told_in_words(low: float | None, high: float | None, words: str) -> None:
    assert Knob("anything", low, high).limits == words


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_the_settings_of_a_recipe_state_a_meaning_for_each_field(recipe: Recipe) -> None:
    names = [field.name for field in fields(recipe.settings)]

    assert names == [parameter.name for parameter in recipe.parameters]
    assert all(parameter.what for parameter in recipe.parameters)
    assert vars(recipe.settings()) == {p.name: p.default for p in recipe.parameters}


def test_its_own_parameters_come_first_and_stand_for_those_of_the_finish() -> None:
    names = [parameter.name for parameter in PARTS.every]

    assert names[:7] == ["share", "count", "depth", "deep", "min_size", "way", "note"]
    assert names[7:] == ["max_size", "fill_holes", "remove_border", "smooth"]
    assert read()["min_size"] == 7
    assert {p.name for p in FINISH} < set(names)


def test_the_recipe_is_given_its_own_parameters_alone() -> None:
    own = {"share": 1, "count": 2, "depth": -3, "deep": True, "min_size": 5, "way": 6, "note": 7}

    told = PARTS.apply(np.zeros((1, 2, 2)), (1, 1), {**own, "smooth": 9.0, "max_size": 8})

    assert told.scores is not None
    assert told.scores.tolist() == [2, 1, -3, 5, 7, 1, 6]  # by name


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_default_may_be_written_out_as_a_word_or_in_a_description(recipe: Recipe) -> None:
    defaults = recipe.parameters_from({}, {})

    assert recipe.parameters_from(defaults, {}) == defaults
    assert recipe.parameters_from({}, {k: str(v) for k, v in defaults.items()}) == defaults


def test_the_finish_changes_nothing_unless_asked() -> None:
    assert Finish.of({parameter.name: parameter.default for parameter in FINISH}, ()) == Finish()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("share", "0", 0.0),
        ("share", "1", 1.0),
        ("share", "1e-1", 0.1),
        ("count", "1", 1),
        ("depth", "-1e9", -1e9),
        ("way", "far", "far"),
        ("note", "any, text", "any, text"),
        *[("deep", word, True) for word in ("true", "Yes", "1", "ON")],
        *[("deep", word, False) for word in ("false", "no", "0", "Off")],
    ],
)
def test_a_word_is_read_as_the_type_of_its_default(key: str, text: str, value: Value) -> None:
    found = read(**{key: text})[key]

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "why"),
    [
        ("share", "1.0001", "1.0001 is not 0 to 1"),
        ("share", "-0.1", "-0.1 is not 0 to 1"),
        ("share", "half", "'half' is not a number"),
        ("count", "0", "0 is not 1 or more"),
        ("count", "2.0", "'2.0' is not a whole number"),
        ("depth", "0.5", "0.5 is not 0 or less"),
        ("deep", "2", "'2' is not true or false"),
        ("way", "Near", "'Near' is not one of near, far"),
        ("depth", "-inf", "-inf is not a finite number"),
        ("smooth", "inf", "inf is not a finite number"),
        ("share", "nan", "nan is not a finite number"),
        ("gone", "1", "there is no such parameter"),
    ],
)
def test_a_word_that_does_not_suit_is_refused_with_the_reason(
    key: str, text: str, why: str
) -> None:
    assert refusal({}, {key: text}) == f"{key}: {why}"


def test_a_refusal_lists_what_there_is_with_the_defaults() -> None:
    with pytest.raises(ParameterRefused) as raised:
        PARTS.parameters_from({}, {"gone": "1"})

    assert (raised.value.code, raised.value.exit_status) == ("recipe.parameter", 2)
    assert raised.value.hint == (
        "its parameters are: share (0.5), count (3), depth (0.0), deep (true), min_size (7), "
        "way (near), note (none), max_size (0), fill_holes (false), remove_border (false), "
        "smooth (0.0)"
    )


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("share", "0.5", "'0.5' is not a number"),
        ("share", True, "'True' is not a number"),
        ("share", 2, "2 is not 0 to 1"),
        ("count", "3", "'3' is not a whole number"),
        ("count", 2.5, "'2.5' is not a whole number"),
        ("count", float("nan"), "'nan' is not a whole number"),
        ("count", True, "'True' is not a whole number"),
        ("deep", 1, "'1' is not true or false"),
        ("note", 5, "'5' is not a text"),
        ("way", "wide", "'wide' is not one of near, far"),
        ("gone", 1, "there is no such parameter"),
    ],
)
def test_a_description_of_a_wrong_type_or_range_is_refused_before_anything_is_labelled(
    key: str, value: Value, why: str
) -> None:
    assert refusal({key: value}, {}) == f"{key}: {why}"


@given(share=st.floats(0, 1), count=st.integers(1, 99), word=st.integers(1, 99))
def test_the_users_word_outdoes_the_description_and_that_the_default(
    share: float, count: int, word: int
) -> None:
    told: dict[str, Value] = {"share": share, "count": float(count)}

    found = PARTS.parameters_from(told, {"count": str(word)})

    assert (found["share"], found["count"], found["way"]) == (share, word, "near")
    assert PARTS.parameters_from(told, {})["count"] == count

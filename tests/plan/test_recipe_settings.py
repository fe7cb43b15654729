from __future__ import annotations

import pytest
from tests.plan.test_recipe_choice import model, output

from bmz.plan.channel_names import RecipeChoice
from bmz.plan.recipe_choice import choose_recipe
from bmz.plan.recipe_settings import TABLE, declared_settings, settings_of
from bmz.process.recipe import Value
from bmz.process.recipes import RECIPES
from bmz.report.reference import settings_table


def test_the_table_of_parameters_is_that_of_the_code() -> None:
    assert TABLE.read_text(encoding="utf-8") == settings_table()


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_shown_is_what_a_run_takes(name: str) -> None:
    stated: dict[str, Value] = {"min_size": 7}

    shown = settings_of(RecipeChoice(name, "", "map", stated))

    assert {one.name: one.value for one in shown} == RECIPES[name].parameters_from(stated, {})
    assert [one.name for one in shown if one.source != "default"] == ["min_size"]
    assert all(one.what and one.limits for one in shown)


def test_a_parameter_that_the_recipe_lacks_is_shown_without_a_meaning() -> None:
    first, *_ = settings_of(RecipeChoice("flows", "", "map", {"sharpness": 3}))

    assert (first.name, first.value, first.source, first.what) == ("sharpness", 3, "package", "")


def test_a_recipe_that_is_not_there_has_no_parameters() -> None:
    assert "magic" not in declared_settings()
    assert settings_of(RecipeChoice("magic", "", "map")) == ()


def test_values_of_the_facts_are_told_as_such() -> None:
    asked = (None, "boundary", "contour")

    choices = [
        choose_recipe(model(output("a", "b"), alias="affable-shark"), recipe=recipe)
        for recipe in asked
    ]

    assert [choice.stated_by for choice in choices] == ["fact", "fact", "package"]
    sources = {one.source for one in settings_of(choices[0])}
    assert sources == {"fact", "default"}

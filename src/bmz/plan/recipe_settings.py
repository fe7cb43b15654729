"""Every parameter of the recipe of a model with its value, and who states it.

The recipes themselves import NumPy and more, so their parameters are read from a table,
``recipe_settings.json``, which ``python -m bmz.report.reference docs/reference`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bmz.base.values import dataclass
from bmz.plan.channel_names import RecipeChoice

TABLE = Path(__file__).with_name("recipe_settings.json")

Source = Literal["package", "fact", "default"]
"""Who states a value: the description of the model, the curated facts, or else the recipe."""


@dataclass(frozen=True)
class Setting:
    """One parameter of a recipe for a model.

    Parameters
    ----------
    name : as in ``--set name=value``
    value : the value in a run unless the user sets another
    source : who states the value
    what : its meaning with the unit; empty if the recipe has no such parameter
    limits : its range in words, or the allowed values
    """

    name: str
    value: Any  # bool, int, float or str
    source: Source
    what: str = ""
    limits: str = ""


@cache
def declared_settings() -> Mapping[str, Sequence[Setting]]:
    """Return the parameters of each recipe with their defaults, the common finish last."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    return {
        recipe: tuple(Setting(source="default", **entry) for entry in entries)
        for recipe, entries in table.items()
    }


def settings_of(choice: RecipeChoice) -> tuple[Setting, ...]:
    """Return every parameter of a recipe with its value for the model.

    Values stated for the model come first. They include parameters that the recipe does not have,
    which a run refuses.
    """
    declared = {setting.name: setting for setting in declared_settings().get(choice.name, ())}
    stated = tuple(
        Setting(name, value, choice.stated_by, known.what, known.limits)
        if (known := declared.pop(name, None))
        else Setting(name, value, choice.stated_by)
        for name, value in choice.parameters.items()
    )
    return (*stated, *declared.values())

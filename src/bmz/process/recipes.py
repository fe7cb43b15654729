"""Every label recipe by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from bmz.process.recipe import Recipe

_NAMES = (
    "stardist",
    "flows",
    "mesmer",
    "contour",
    "boundary",
    "gasp",
    "multicut",
    "affinities",
    "hover",
    "panoptic",
    "distances",
    "spots",
    "distance_watershed",
    "components",
    "argmax",
    "masks",
    "prompts",
    "labels",
)
"""Each is a module of this package, which holds the recipe under its name in capitals."""

_MODULES = {"argmax": "components", "masks": "components", "labels": "components"}
"""Recipes that share the module of another recipe."""


class _Recipes(Mapping[str, Recipe]):
    """Imports a recipe on demand, as importing all takes longer than running a small image."""

    def __getitem__(self, name: str) -> Recipe:
        if name not in _NAMES:
            raise KeyError(name)
        module = _MODULES.get(name, name)
        recipe: Recipe = getattr(import_module(f"bmz.process.{module}"), name.upper())
        return recipe

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)

    def __contains__(self, name: object) -> bool:
        return name in _NAMES


RECIPES: Mapping[str, Recipe] = _Recipes()
"""The names that ``--recipe`` takes; ``none``, which keeps the raw output, is not a recipe."""

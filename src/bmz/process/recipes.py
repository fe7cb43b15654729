"""Every label recipe by its name."""

from __future__ import annotations

from collections.abc import Mapping

from bmz.process.argmax import ARGMAX
from bmz.process.boundary import BOUNDARY
from bmz.process.components import COMPONENTS
from bmz.process.flows import FLOWS
from bmz.process.labels import LABELS
from bmz.process.recipe import Recipe
from bmz.process.stardist import STARDIST

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe for recipe in (STARDIST, FLOWS, BOUNDARY, COMPONENTS, ARGMAX, LABELS)
}
"""The names that ``--recipe`` takes; ``none``, which keeps the raw output, is no recipe."""

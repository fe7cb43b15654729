"""Every label recipe by its name."""

from __future__ import annotations

from collections.abc import Mapping

from bmz.process.affinities import AFFINITIES
from bmz.process.argmax import ARGMAX
from bmz.process.boundary import BOUNDARY
from bmz.process.components import COMPONENTS
from bmz.process.contour import CONTOUR
from bmz.process.distance_watershed import DISTANCE_WATERSHED
from bmz.process.flows import FLOWS
from bmz.process.gasp import GASP
from bmz.process.labels import LABELS
from bmz.process.masks import MASKS
from bmz.process.mesmer import MESMER
from bmz.process.recipe import Recipe
from bmz.process.stardist import STARDIST

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        STARDIST,
        FLOWS,
        MESMER,
        CONTOUR,
        BOUNDARY,
        GASP,
        AFFINITIES,
        DISTANCE_WATERSHED,
        COMPONENTS,
        ARGMAX,
        MASKS,
        LABELS,
    )
}
"""The names that ``--recipe`` takes; ``none``, which keeps the raw output, is no recipe."""

"""The label recipe ``stardist``: object probability and ray distances become labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.output_map import ChannelsDiffer, require_plane
from bmz.process.recipe import Labelled, Parameter, Recipe
from bmz.process.relabel import in_raster_order
from bmz.process.star_polygons import FEWEST_RAYS
from bmz.process.star_rendering import render_polygons
from bmz.process.star_suppression import non_maximum_suppression

__all__ = [
    "STARDIST",
    "Candidates",
    "find_candidates",
    "label_stars",
    "non_maximum_suppression",
    "render_polygons",
]


@dataclass(frozen=True)
class Candidates:
    """Places of an output map that may be the centre of an object, in raster order.

    Parameters
    ----------
    points : (n, 2) int64, centres (y, x) in px of the input
    distances : (n, rays) float32, px of the input
    scores : (n,) float32, probabilities
    """

    points: AnyArray
    distances: FloatArray
    scores: FloatArray

    def within(self, shape: tuple[int, int]) -> Candidates:
        """Drop those whose centre lies outside an image of `shape` px, such as in its padding."""
        outside = (self.points < 0) | (self.points >= np.asarray(shape))
        return self.take(np.flatnonzero(~np.any(outside, axis=1)))

    def take(self, which: AnyArray) -> Candidates:
        """Give the candidates that an index or a mask selects."""
        return Candidates(self.points[which], self.distances[which], self.scores[which])


@dataclass(frozen=True)
class StarSettings:
    """The parameters of the recipe; `STARDIST` says what they mean."""

    prob_threshold: float = 0.5
    nms_threshold: float = 0.4
    border: int = 2


def find_candidates(
    output: AnyArray, grid: tuple[int, ...], prob_threshold: float, border: int
) -> Candidates:
    """Find the places with a probability above the threshold and a finite outline.

    Parameters
    ----------
    output : (1 + rays, y, x), probability and distances in px of the input
    grid : spacing of the map along y and x, px of the input
    prob_threshold : a place needs more than this
    border : this many outermost rows and columns of the map have no candidates
    """
    probability = output[0]
    inner = np.zeros(probability.shape, np.bool_)
    height, width = inner.shape
    inner[border : max(height - border, 0), border : max(width - border, 0)] = True
    y, x = np.nonzero(inner & (probability > prob_threshold))
    found = Candidates(
        np.stack([y, x], axis=1) * np.asarray(grid, np.int64),
        np.ascontiguousarray(output[1:, y, x].T, np.float32),
        probability[y, x].astype(np.float32),
    )
    return found.take(np.isfinite(found.distances).all(axis=1) & np.isfinite(found.scores))


def label_stars(output: AnyArray, grid: tuple[int, ...], **parameters: Any) -> Labelled:  # noqa: ANN401  (as every recipe)
    """Turn probability and ray distances into labels: the best polygons that hardly overlap.

    Parameters
    ----------
    output : (1 + rays, y, x); ray k points to (sin, cos) of 2 pi k / rays in (y, x)
    grid : spacing of the map along y and x, px of the input
    **parameters : as in `StarSettings`

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``; the score of an object is its probability

    Raises
    ------
    DimensionsNotDone
        `output` is not (c, y, x); stacks are not done yet.
    ChannelsDiffer
        There are fewer than 3 rays.
    """
    require_plane("stardist", output)
    if len(output) < 1 + FEWEST_RAYS:
        raise ChannelsDiffer("stardist", "a probability and at least 3 distances", len(output))
    wanted = StarSettings(**parameters)
    found = find_candidates(output, grid, wanted.prob_threshold, wanted.border)
    kept = found.take(
        non_maximum_suppression(found.points, found.distances, found.scores, wanted.nms_threshold)
    )
    height, width = (size * step for size, step in zip(output.shape[1:], grid, strict=True))
    labels = render_polygons(kept.points, kept.distances, kept.scores, (height, width))
    return in_raster_order(labels, kept.scores)


STARDIST = Recipe(
    name="stardist",
    what="object probability and distances along rays: the best star-convex polygons",
    source="Schmidt et al. 2018, doi 10.1007/978-3-030-00934-2_30; stardist 0.9.2",
    label=label_stars,
    parameters=(
        Parameter("prob_threshold", 0.5, "least probability of an object", 0, 1),
        Parameter("nms_threshold", 0.4, "largest overlap of two objects, share of area", 0, 1),
        Parameter("border", 2, "outermost pixels of the map without centres of objects", 0),
    ),
)
"""The recipe of StarDist models."""

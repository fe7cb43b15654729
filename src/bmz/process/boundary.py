"""The label recipe ``boundary``: watershed on a map of boundaries, from one seed a cell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy import ndimage

from bmz.base.arrays import AnyArray, BoolArray, LabelArray
from bmz.plan.tile_way import TileWay
from bmz.process.depth import depth_of
from bmz.process.flooding import flooded
from bmz.process.insides import number_insides
from bmz.process.maps import are_shares, on_input_grid, one_map, without_small
from bmz.process.output_map import ChannelsDiffer
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe
from bmz.process.relabel import in_raster_order

NONE = -1
"""There is no such channel."""

BY_COUNT = -2
"""One channel is the boundary; of two the first is the foreground, the last the boundary."""

BY_KIND = -1.0
"""One seed for each connected inside of a foreground; else seeds `APART_PX` from each other.
Twice as much stands for twice that distance."""

APART_PX = 10.0

SURE = 0.2
"""What is below this share of the boundary's threshold is inside beyond doubt."""


@dataclass(frozen=True)
class BoundarySettings:
    """The parameters of the recipe."""

    foreground_channel: Annotated[int, Knob("-1: none; -2: the first of two", BY_COUNT)] = BY_COUNT
    boundary_channel: Annotated[int, Knob("-2: the last of one or two", BY_COUNT)] = BY_COUNT
    background_channel: Annotated[int, Knob("-1: none", NONE)] = NONE
    foreground_threshold: Annotated[
        float, Knob("least foreground of a cell, probability", 0, 1)
    ] = 0.5
    boundary_threshold: Annotated[
        float,
        Knob("most boundary of an inside, with what the foreground lacks to 1; probability", 0, 1),
    ] = 0.5
    seed_distance: Annotated[
        float,
        Knob(
            "px between seeds; 0: one each connected inside; -1: 0 with a foreground, 10 without",
            BY_KIND,
            grows=1,
        ),
    ] = BY_KIND
    sigma: Annotated[
        float, Knob("smoothing of the distance to a boundary, px of the input", 0, grows=1)
    ] = 2.0
    min_size: Annotated[int, Knob("smallest object, px of the input", 0)] = 15


@dataclass(frozen=True)
class Cells:
    """Where cells can be, by the maps of one output; all of shape ((z,) y, x).

    Parameters
    ----------
    boundary : the map that is flooded
    mask : pixels that belong to some cell
    inside : pixels of `mask` that are no boundary, and from which cells grow
    sure : pixels of `inside` that no boundary is near
    bounded : false when nothing tells the background, so that cells fill the image
    """

    boundary: AnyArray
    mask: BoolArray
    inside: BoolArray
    sure: BoolArray
    bounded: bool


def label_cells(output: AnyArray, grid: tuple[int, ...], settings: BoundarySettings) -> Labelled:
    """Flood a boundary map from seeds inside the cells.

    With a foreground there is one seed for each connected inside: where the foreground exceeds the
    boundary by enough (the rule of torch-em's ``watershed_from_components``), so that a faint
    boundary in a doubtful foreground parts two cells. Unlike there, insides that touch at a corner
    alone are two, as `number_insides` says. With boundaries only, seeds are the local maxima of the
    smoothed distance to the next boundary, and cells fill the image (the distance transform
    watershed of PlantSeg). `seed_distance` chooses one or the other by hand. Objects that are too
    small give their pixels to their neighbours.

    Parameters
    ----------
    output : (c, (z,) y, x), probabilities
    grid : spacing of the map, px of the input; distances and sizes heed it
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores

    Raises
    ------
    ChannelsDiffer
        A channel is not there, or there are three or more and no word which is which.
    """
    cells = find_cells(output, settings)
    apart = settings.seed_distance
    if apart < 0:
        apart = 0.0 if cells.bounded else apart / BY_KIND * APART_PX
    if apart == 0:
        seeds = number_insides(cells.inside, cells.sure, settings.min_size / math.prod(grid))
    else:
        seeds = spread_seeds(cells, grid, apart, settings.sigma)
    labels = _flooded(cells, seeds, settings.min_size, grid)
    return in_raster_order(on_input_grid(labels, grid))


def find_cells(output: AnyArray, settings: BoundarySettings) -> Cells:
    """Read the maps of foreground, boundary and background as `label_cells` says."""
    foreground_at, boundary_at = _channels(output, settings)
    boundary = one_map("boundary", output, boundary_at)
    covered = _covered(output, foreground_at, settings.background_channel, boundary)
    most = settings.boundary_threshold
    if covered is None:
        mask, inside = np.ones(boundary.shape, np.bool_), ~(boundary > most)
        return Cells(boundary, mask, inside, boundary < SURE * most, bounded=False)
    foreground, share = covered
    mask, depth = share > settings.foreground_threshold, foreground - boundary
    inside, sure = mask & (depth > 1 - most), mask & (depth > 1 - SURE * most)
    return Cells(boundary, mask, inside, sure, bounded=True)


def _covered(
    output: AnyArray, foreground_at: int, background_at: int, boundary: AnyArray
) -> tuple[AnyArray, AnyArray] | None:
    # the foreground, and what cells are masked with: where there is a background, by that
    share = None if background_at == NONE else 1 - one_map("boundary", output, background_at)
    if foreground_at == NONE:
        return None if share is None else (share, share)
    foreground = one_map("boundary", output, foreground_at)
    if are_shares(output):
        # classes exclude each other, so a cell is its inside and its boundary together
        foreground = foreground + boundary
    return foreground, foreground if share is None else share


def spread_seeds(
    cells: Cells, grid: tuple[int, ...], apart_px: float, sigma_px: float
) -> LabelArray:
    """Find the local maxima of the smoothed distance to the next pixel that is not inside.

    Parameters
    ----------
    cells : the maps
    grid : px of the input for each entry, one number an axis
    apart_px : a maximum is the largest value within this distance along every axis; of equal
        ones both stay
    sigma_px : standard deviation of the Gaussian that smooths the distance

    Returns
    -------
    ((z,) y, x) int
        1 to n, 0 where there is no seed. Where the background is known, a connected inside without
        a maximum is one seed as a whole, so that no object is lost to a larger one beside it.
    """
    everywhere = cells.inside.all()  # then there is no distance to measure, and one seed
    depth = cells.inside * np.float32(1) if everywhere else depth_of(cells.inside, grid)
    smooth = ndimage.gaussian_filter(depth, [sigma_px / step for step in grid])
    window = [2 * max(round(apart_px / step), 1) + 1 for step in grid]
    top = cells.inside & (smooth == ndimage.maximum_filter(smooth, window))
    if cells.bounded:
        parts = ndimage.label(cells.inside)[0]
        seeded = np.bincount(parts[top], minlength=int(parts.max()) + 1) > 0
        top |= cells.inside & ~seeded[parts]
    seeds: LabelArray = ndimage.label(top, np.ones((3,) * top.ndim))[0]
    return seeds


def _channels(output: AnyArray, settings: BoundarySettings) -> tuple[int, int]:
    count = len(output)
    asked = (settings.foreground_channel, settings.boundary_channel)
    if BY_COUNT in asked and count > len(asked):
        which = "told which of the channels is which, with foreground_channel and boundary_channel,"
        raise ChannelsDiffer("boundary", f"to be {which}", count)
    foreground, boundary = (NONE, 0) if count == 1 else (0, 1)
    return (
        foreground if asked[0] == BY_COUNT else asked[0],
        boundary if asked[1] == BY_COUNT else asked[1],
    )


def _flooded(cells: Cells, seeds: LabelArray, min_size: int, grid: tuple[int, ...]) -> LabelArray:
    labels = flooded(cells.boundary, seeds, cells.mask)
    kept = without_small(labels, min_size, grid)
    # the others keep their pixels when a seed goes, so that nothing else is flooded again
    return labels if kept is labels else flooded(cells.boundary, kept, cells.mask)


TILES = TileWay(
    by_halo="around planes",
    source="torch-em 0.10.9, util/prediction.py: predict_with_halo mirrors by the halo on every "
    "side, predict_with_padding leaves a legal size as it is",
)
"""What torch-em does. The zeros that the network itself puts around an image are worse:
``benchmarks/borders.py`` holds both against a larger image."""


BOUNDARY = Recipe(
    name="boundary",
    what="boundaries, with or without a foreground: watershed from one seed a cell",
    source="torch-em watershed_from_components, UnMICST; PlantSeg distance transform",
    label=label_cells,
    # in blocks it gave an adjusted Rand index of 0.99 or more against one piece, on the
    # membranes of a real network
    in_blocks=InBlocks(far_seeing=True),
    tiles=TILES,
    settings=BoundarySettings,
)
"""The recipe of boundary and contour maps."""

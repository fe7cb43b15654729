"""The label recipe ``mesmer``: inner distance and interior of cells become labels."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray
from bmz.base.values import dataclass
from bmz.plan.tile_way import SplineBlend, TileWay
from bmz.process.distance_watershed import prominent_peaks, watershed
from bmz.process.object_columns import scored
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe
from bmz.process.relabel import (
    ChannelsDiffer,
    in_raster_order,
    mean_of_each,
    on_input_grid,
    with_gaps,
)

BY_COMPARTMENT = -1.0

LEAST_MAXIMUM = {"whole-cell": 0.075, "nuclear": 0.1}
"""The defaults of Mesmer for cells and for nuclei."""

PLACES = {2: (0, 1), 4: (0, 2)}
"""Channels of inner distance and interior: one map each, or three classes behind the distance."""

BOTH = 8
"""Channels of both compartments: inner distance and three classes of cells, then of nuclei."""


@dataclass(frozen=True)
class MesmerSettings:
    """The parameters of the recipe."""

    compartment: Annotated[str, Knob("what is labelled", choices=("whole-cell", "nuclear"))] = (
        "whole-cell"
    )
    maxima_threshold: Annotated[
        float,
        Knob(
            "minimum prominence of a peak of the inner distance; -1: 0.075 for cells, 0.1 for "
            "nuclei",
            BY_COMPARTMENT,
            1,
        ),
    ] = BY_COMPARTMENT
    maxima_smooth: Annotated[
        float, Knob("Gaussian before the search for peaks, px of the map", 0, grows=1)
    ] = 0.0
    interior_threshold: Annotated[
        float, Knob("minimum interior probability of a cell", 0, 1, cures=(0.05, 0.4, 0.6))
    ] = 0.2
    interior_smooth: Annotated[
        float, Knob("Gaussian of the interior, px of the map", 0, grows=1)
    ] = 2.0
    radius: Annotated[
        int, Knob("maximum distance between pixels of one peak, px of the map", 1, grows=1)
    ] = 2
    small_objects_threshold: Annotated[int, Knob("smallest object, px of the map", 0, grows=2)] = 15
    fill_holes_threshold: Annotated[int, Knob("fill holes smaller than this, px", 0, grows=2)] = 15


def label_mesmer(output: AnyArray, grid: tuple[int, ...], settings: MesmerSettings) -> Labelled:
    """Flood the interior from the peaks of the inner distance (deep watershed).

    Parameters
    ----------
    output : (2, (z,) y, x): inner distance, interior; or (4, ...): inner distance, then the
        classes edge, interior, background; or (8, ...): these four of cells, then of nuclei
    grid : spacing of the map, px of the input
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``; the score of an object is the mean of its interior

    Raises
    ------
    ChannelsDiffer
        There are not 2, 4 or 8 channels, or nuclei are asked for where one compartment is there.
    """
    distance, interior = _maps(output, settings.compartment)
    rise = settings.maxima_threshold
    if rise == BY_COMPARTMENT:
        rise = LEAST_MAXIMUM[settings.compartment]
    peaks = prominent_peaks(_smooth(distance, settings.maxima_smooth), rise, settings.radius)
    soft = _smooth(interior, settings.interior_smooth)
    labels = watershed(-soft, peaks, soft > settings.interior_threshold)
    labels = without_small_holes(_large(labels, settings), settings.fill_holes_threshold)
    labels = in_raster_order(on_input_grid(labels, grid)).labels
    return Labelled(labels, scored(mean_of_each(labels, on_input_grid(interior, grid))))


def without_small_holes(labels: LabelArray, smaller_than: int) -> LabelArray:
    """Fill the holes of each object that have fewer pixels; other objects in them stay.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background
    smaller_than : px
    """
    filled = labels.copy()
    for number, box in with_gaps(labels) if smaller_than > 0 else ():
        own = labels[box] == number
        holes, _ = ndimage.label(ndimage.binary_fill_holes(own) & ~own)
        size = np.bincount(holes.reshape(-1))
        size[0] = smaller_than
        filled[box][(size < smaller_than)[holes] & (labels[box] == 0)] = number
    return filled


def _maps(output: AnyArray, compartment: str) -> tuple[FloatArray, FloatArray]:
    count = len(output)
    if count == BOTH:
        half = BOTH // 2
        output = output[:half] if compartment == "whole-cell" else output[half:]
    if len(output) not in PLACES:
        expected = "2, 4 or 8 channels (inner distance, and interior or classes)"
        raise ChannelsDiffer("mesmer", expected, count)
    distance, interior = PLACES[len(output)]
    finite = np.nan_to_num(np.asarray(output, np.float32), nan=0, posinf=0, neginf=0)
    return finite[distance], finite[interior]


def _smooth(values: FloatArray, sigma_px: float) -> FloatArray:
    if sigma_px <= 0:
        return values
    soft: FloatArray = ndimage.smoothed(values, (sigma_px,) * values.ndim, mode="nearest")
    return soft


def _large(labels: LabelArray, settings: MesmerSettings) -> LabelArray:
    size = np.bincount(labels.reshape(-1))
    keeps: BoolArray = size >= settings.small_objects_threshold
    return np.where(keeps[labels], labels, 0)


TILES = TileWay(
    pad="constant",
    side_px=256,
    blend=SplineBlend(stride=0.75),
    centred=True,
    alone="reflect",
    source="deepcell 0.12.10, Application._tile_input; deepcell-toolbox 0.12.1, utils.py: "
    "tile_image, untile_image",
)
"""What Mesmer does: an image smaller than the network is mirrored on both sides, a larger one lies
in the middle of zeros that complete its tiles, which are averaged."""


MESMER = Recipe(
    name="mesmer",
    what="inner distance and interior: watershed from the peaks of the distance (deep watershed)",
    source="Greenwald et al. 2022, doi 10.1038/s41587-021-01094-0; h-maxima and watershed",
    label=label_mesmer,
    in_blocks=InBlocks(),
    settings=MesmerSettings,
    tiles=TILES,
)
"""The recipe of Mesmer and other models of inner distances."""

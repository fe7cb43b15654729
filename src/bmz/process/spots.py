"""The label recipe ``spots``: peaks of a heat map become discs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LazyArray
from bmz.base.values import dataclass
from bmz.process.object_columns import scored
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe, Value
from bmz.process.relabel import in_raster_order, on_input_grid, one_map


@dataclass(frozen=True)
class SpotSettings:
    """The parameters of the recipe."""

    threshold: Annotated[float, Knob("least height of a peak, in units of the map")] = 0.5
    channel: Annotated[int, Knob("channel of the heat map, counted from 0", 0)] = 0
    min_distance: Annotated[
        int, Knob("a peak is the highest entry within so many px of the map, along each axis", 1,
                  grows=1)
    ] = 1  # fmt: skip
    radius: Annotated[
        float, Knob("of the disc that stands for a spot, px of the map", 0, grows=1)
    ] = 2.0
    sigma: Annotated[
        float, Knob("Gaussian before peaks are sought, px of the map; 0: none", 0, grows=1)
    ] = 0.0


def label_spots(output: AnyArray, grid: tuple[int, ...], settings: SpotSettings) -> Labelled:
    """Draw a disc around each peak of a heat map.

    A pixel that lies within the discs of two spots belongs to the nearer one.

    Parameters
    ----------
    output : (c, (z,) y, x), of which one channel is read; what is not a number counts as lowest
    grid : spacing of the map, px of the input
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``; the score of a spot is the height of its peak

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    heat = _heat(output, settings)
    peaks = peaks_of(heat, settings.threshold, settings.min_distance)
    numbers, count = ndimage.label(peaks, np.ones((3,) * peaks.ndim))
    if not count:
        return in_raster_order(on_input_grid(numbers, grid), scored(np.zeros(0)))
    away, nearest = ndimage.distance_transform_edt(numbers == 0, return_indices=True)
    discs = np.where(away <= settings.radius, numbers[tuple(nearest)], 0)
    heights = np.zeros(count + 1, np.float32)
    heights[numbers[peaks]] = heat[peaks]
    return in_raster_order(on_input_grid(discs, grid), scored(heights[1:]))


def peaks_of(heat: FloatArray, threshold: float, min_distance: int) -> BoolArray:
    """Mark the entries above a threshold that no entry around them exceeds.

    Source: ``skimage.feature.peak_local_max``, of whose peaks on one plateau all are marked.

    Parameters
    ----------
    heat : ((z,) y, x)
    threshold : in units of `heat`; a peak lies above it
    min_distance : how far around is looked, entries along each axis
    """
    window = (2 * min_distance + 1,) * heat.ndim
    peaks: BoolArray = (heat > threshold) & (heat == ndimage.highest_around(heat, window))
    return peaks


def _heat(output: AnyArray, settings: SpotSettings) -> FloatArray:
    values = np.asarray(one_map("spots", output, settings.channel), np.float32)
    heat = np.nan_to_num(values, nan=-np.inf)
    if settings.sigma > 0:
        heat = ndimage.smoothed(np.nan_to_num(values), (settings.sigma,) * values.ndim)
    return heat


def spot_reach(_maps: LazyArray, parameters: Mapping[str, Value], _grid: Sequence[int]) -> int:
    """Say how far a value of the map has an influence on labels, entries."""
    smoothing = int(4 * float(parameters["sigma"]) + 0.5)
    return int(parameters["min_distance"]) + int(2 * float(parameters["radius"])) + smoothing + 1


SPOTS = Recipe(
    name="spots",
    what="one heat map: a disc around each of its peaks",
    source="local maxima, as Spotiflow (Dominguez Mantes et al. 2025, doi "
    "10.1038/s41592-025-02662-x) and U-FISH read their heat maps",
    label=label_spots,
    settings=SpotSettings,
    in_blocks=InBlocks(least_overlap=spot_reach, reach=spot_reach),
)
"""The recipe of spots, such as of single molecules."""

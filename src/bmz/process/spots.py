"""The label recipe ``spots``: peaks of a heat map become points, and discs around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, LazyArray
from bmz.base.values import dataclass
from bmz.process.object_columns import scored
from bmz.process.recipe import InBlocks, Knob, Labelled, Place, Recipe, Value
from bmz.process.relabel import in_raster_order, on_input_grid, one_map

DIGITS = 3
"""Decimals of positions: finer than the accuracy of any spot, and the same in parts of a map."""


MANY_TIMES = 4
"""Entries that are tested or drawn one by one, as a multiple of those of the map."""


@dataclass(frozen=True)
class SpotSettings:
    """The parameters of the recipe."""

    threshold: Annotated[float, Knob("minimum height of a peak, in units of the map")] = 0.5
    channel: Annotated[int, Knob("channel of the heat map, counted from 0", 0)] = 0
    min_distance: Annotated[
        int, Knob("a peak is the highest entry within this distance, px of the map along each "
                  "axis", 1,
                  grows=1)
    ] = 1  # fmt: skip
    radius: Annotated[
        float, Knob("radius of the disc that represents a spot, px of the map", 0, grows=1)
    ] = 2.0
    sigma: Annotated[
        float, Knob("Gaussian before the search for peaks, px of the map; 0: none", 0, grows=1)
    ] = 0.0


def label_spots(
    output: AnyArray,
    grid: tuple[int, ...],
    settings: SpotSettings,
    *,
    place: Place | None = None,
) -> Labelled:
    """Draw a disc around each peak of a heat map, and locate the peak with subpixel accuracy.

    A pixel within the discs of two spots belongs to the nearer one. The position is the maximum of
    a Gaussian through the peak and its neighbours, separately along each axis (of a parabola if one
    of them is not above 0); for a plateau it is the mean of these.

    Parameters
    ----------
    output : (c, (z,) y, x), of which one channel is read; NaN counts as lowest
    grid : spacing of the map, px of the input
    settings : the parameters
    place : position of the output in the map of the image; None if it is the whole

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``; the score of a spot is the height of its peak, and
        ``point_y_px``, ``point_x_px`` (and ``point_z_px``) are its position in the image, px of
        the input, with 0 in the middle of the first one

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    heat = _heat(output, settings)
    peaks = peaks_of(heat, settings.threshold, settings.min_distance)
    numbers, count = ndimage.label(peaks, np.ones((3,) * peaks.ndim))
    if not count:
        nothing = scored(np.zeros(0)) | _points(np.zeros((0, heat.ndim)), grid, place)
        return in_raster_order(on_input_grid(numbers, grid), nothing)
    discs = discs_around(numbers, settings.radius)
    heights = np.zeros(count + 1, np.float32)
    heights[numbers[peaks]] = heat[peaks]
    columns = scored(heights[1:]) | _points(_tops(heat, numbers, count), grid, place)
    return in_raster_order(on_input_grid(discs, grid), columns)


def discs_around(numbers: LabelArray, radius: float) -> LabelArray:
    """Assign the entries around each number to the nearest number, up to `radius` away.

    Equivalent to ``scipy.ndimage.distance_transform_edt``, which assigns an entry between two
    equally near ones to the one that comes first along x, then y, then z.

    Parameters
    ----------
    numbers : ((z,) y, x) integers, 0 if there is none
    radius : entries
    """
    at = np.stack(np.nonzero(numbers != 0), axis=1)
    reach = min(int(max(radius, 0)), max(numbers.shape, default=0))
    if len(at) * (2 * reach + 1) ** numbers.ndim > MANY_TIMES * numbers.size:
        away, nearest = ndimage.distance_transform_edt(numbers == 0, return_indices=True)
        return np.where(away <= radius, numbers[tuple(nearest)], 0)
    own, discs = numbers[tuple(at.T)], np.zeros(numbers.shape, numbers.dtype)
    for step in _steps_within(reach, radius, numbers.ndim):
        # the nearest are written last, and among equals the ones that come first
        place = at + step
        inside = ((place >= 0) & (place < numbers.shape)).all(axis=1)
        discs[tuple(place[inside].T)] = own[inside]
    return discs


def _steps_within(reach: int, radius: float, axes: int) -> AnyArray:
    # offsets within a ball, the longest first, and equal ones by x, then y, then z
    steps = np.indices((2 * reach + 1,) * axes).reshape(axes, -1) - reach
    squares = np.square(steps).sum(axis=0)
    order = np.lexsort((*steps, -squares))
    ball: AnyArray = steps.T[order[np.sqrt(squares[order]) <= radius]]
    return ball


def _tops(heat: FloatArray, numbers: LabelArray, count: int) -> FloatArray:
    # position of each peak, (count, axes) entries of the map
    at = np.nonzero(numbers != 0)
    own = numbers[at] - 1
    size = np.bincount(own, minlength=count)
    moved = [_beside(heat, at, axis) for axis in range(heat.ndim)]
    sums = [np.bincount(own, along + step, count) for along, step in zip(at, moved, strict=True)]
    tops: FloatArray = np.stack(sums, axis=1) / size[:, None]
    return tops


def _beside(heat: FloatArray, at: tuple[AnyArray, ...], axis: int) -> FloatArray:
    """Return the offset of the maximum from an entry along an axis, from -0.5 to 0.5 entries."""
    last = heat.shape[axis] - 1
    places = [(*at[:axis], np.clip(at[axis] + k, 0, last), *at[axis + 1 :]) for k in (-1, 0, 1)]
    values = np.stack([heat[place].astype(np.float64) for place in places])
    values[~np.isfinite(values)] = 0
    positive = (values > 0).all(axis=0)
    low, here, high = np.where(positive, np.log(np.where(positive, values, 1)), values)
    bend = 2 * here - low - high
    step = np.divide(high - low, 2 * bend, out=np.zeros_like(bend), where=bend > 0)
    inside = (at[axis] > 0) & (at[axis] < last)
    return np.where(inside, np.clip(step, -0.5, 0.5), 0)


def _points(tops: FloatArray, grid: tuple[int, ...], place: Place | None) -> dict[str, AnyArray]:
    first = (0,) * len(grid) if place is None else place.origin
    along = zip("zyx"[-len(grid) :], tops.T, grid, first, strict=True)
    return {
        # an entry of the map lies in the middle of the pixels that it covers
        f"point_{axis}_px": np.round((column + start + 0.5) * step - 0.5, DIGITS)
        for axis, column, step, start in along
    }


def peaks_of(heat: FloatArray, threshold: float, min_distance: int) -> BoolArray:
    """Mark the entries above a threshold that no surrounding entry exceeds.

    Source: ``skimage.feature.peak_local_max``; all entries of a plateau are marked.

    Parameters
    ----------
    heat : ((z,) y, x)
    threshold : in units of `heat`; peaks are above it
    min_distance : size of the neighbourhood on each side, entries along each axis
    """
    window = (2 * min_distance + 1,) * heat.ndim
    peaks: BoolArray = heat > threshold
    places = np.flatnonzero(peaks)
    if len(places) * math.prod(window) > MANY_TIMES * heat.size:
        peaks &= heat == ndimage.highest_around(heat, window)
        return peaks
    peaks[...] = False
    wide = np.pad(heat, min_distance, constant_values=-np.inf)
    first = np.ravel_multi_index(np.unravel_index(places, heat.shape), wide.shape)
    flat, height = wide.reshape(-1), heat.reshape(-1)[places]
    around = tuple(np.indices(window).reshape(heat.ndim, -1))
    for step in np.asarray(np.ravel_multi_index(around, wide.shape)):
        # most entries are soon found to be lower than another one
        highest = flat[first + step] <= height
        places, first, height = places[highest], first[highest], height[highest]
    peaks.reshape(-1)[places] = True
    return peaks


def _heat(output: AnyArray, settings: SpotSettings) -> FloatArray:
    values = np.asarray(one_map("spots", output, settings.channel), np.float32)
    heat = values if np.isfinite(values.sum()) else np.nan_to_num(values, nan=-np.inf)
    if settings.sigma > 0:
        heat = ndimage.smoothed(np.nan_to_num(values), (settings.sigma,) * values.ndim)
    return heat


def spot_reach(_maps: LazyArray, parameters: Mapping[str, Value], _grid: Sequence[int]) -> int:
    """Return how far a value of the map influences labels, entries."""
    smoothing = int(4 * float(parameters["sigma"]) + 0.5)
    return int(parameters["min_distance"]) + int(2 * float(parameters["radius"])) + smoothing + 1


SPOTS = Recipe(
    name="spots",
    what="one heat map: a point for each of its peaks, with a disc around it",
    source="local maxima, as Spotiflow (Dominguez Mantes et al. 2025, doi "
    "10.1038/s41592-025-02662-x) and U-FISH read their heat maps",
    label=label_spots,
    settings=SpotSettings,
    placed=True,
    in_blocks=InBlocks(least_overlap=spot_reach, reach=spot_reach),
)
"""The recipe of spots, such as of single molecules."""

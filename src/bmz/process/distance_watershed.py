"""Watersheds, and the label recipe ``distance_watershed``: a foreground, cut where it is narrow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import (
    AnyArray,
    BoolArray,
    FloatArray,
    LabelArray,
    LazyArray,
    stable_order,
)
from bmz.base.axes import Box, boxes
from bmz.base.values import dataclass
from bmz.process.contour import mean_of_each
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe, Value
from bmz.process.relabel import (
    ChannelsDiffer,
    channel_words,
    in_raster_order,
    on_input_grid,
    one_map,
)
from bmz.process.whole_map import OTSU, streamed_otsu, threshold_of

AT_ONCE = 1 << 16
"""Entries that are looked at together, so that they stay in the processor."""

FAR_PLACE = 1 << 31
"""From so many entries on, their places need 64 bits."""

LEVELS = 1 << 16
"""Heights are told apart by this many steps, between 0 and 1 or the limits of the map beyond."""


def flooded(surface: AnyArray, seeds: LabelArray, mask: BoolArray | None = None) -> LabelArray:
    """Let seeds grow over a map, the lowest pixels first, until they meet.

    Meyer's flooding (doi 10.1016/0165-1684(94)90060-4) between pixels that share a face, as
    ``skimage.segmentation.watershed``, with a bucket for each level in place of a heap. On a
    plateau all seeds advance by one pixel in turn. Levels of maps between 0 and 1 do not hang on
    the map, so that a part of a map is flooded like the whole.

    Parameters
    ----------
    surface : ((z,) y, x), any unit; NaN is as high as the highest
    seeds : of the same shape, 1 to 2**29 - 1, 0 where there is none
    mask : of the same shape, pixels that may be flooded; None for all. A seed outside is none

    Returns
    -------
    ((z,) y, x) int32
        the number of the seed that reached each pixel, 0 where none did
    """
    wide = tuple(size + 2 for size in surface.shape)
    inner = (slice(1, -1),) * surface.ndim
    levels, state = np.zeros(wide, np.uint16), np.zeros(wide, np.int32)
    ends = _ends(surface)
    for part in _strips(surface.shape):
        level = _levels(np.asarray(surface[part], np.float32), ends)
        levels[inner][part] = level
        start = np.where(seeds[part] > 0, seeds[part], -1 - level.astype(np.int32))
        state[inner][part] = start if mask is None else np.where(mask[part], start, 0)
    _flood(state.reshape(-1), levels.reshape(-1), _faces(wide))
    return np.maximum(state[inner], 0)


def _flood(state: LabelArray, levels: NDArray[np.uint16], steps: NDArray[np.intp]) -> None:
    from bmz.process.watershed_loops import spread, take_rim

    index: type[np.int32 | np.intp] = np.int32 if state.size < FAR_PLACE else np.intp
    rim: LabelArray = np.empty(state.size, index)  # of which little is ever touched
    room = np.zeros(int(levels.max(initial=0)) + 2, np.intp)
    rim = rim[: take_rim(state, levels, steps, rim, room)]
    first = np.cumsum(room)
    # those to begin with stand at the beginning of their levels, in raster order
    rim = rim[np.argsort(levels[rim], kind="stable")]
    begun = np.bincount(levels[rim], minlength=len(room) - 1)
    behind = np.arange(rim.size) - np.repeat(np.cumsum(begun) - begun, begun)
    queue, below = np.empty((2, first[-1]), index)
    queue[first[levels[rim]] + behind] = rim
    spread(state, steps, queue, first[:-1], first[:-1] + begun, below)


def _ends(surface: AnyArray) -> tuple[float, float]:
    # what the lowest and the highest level stand for: 0 and 1, or the limits of the map beyond
    low, high = 0.0, 1.0
    for part in _strips(surface.shape):
        heights = np.asarray(surface[part], np.float32)
        finite = heights if np.isfinite(heights.sum()) else heights[np.isfinite(heights)]
        low, high = min(low, float(finite.min(initial=0))), max(high, float(finite.max(initial=1)))
    return low, high


def _levels(heights: FloatArray, ends: tuple[float, float]) -> NDArray[np.uint16]:
    low, high = ends
    if not np.isfinite(heights.sum()):
        heights = np.clip(np.nan_to_num(heights, nan=high), low, high)
    return ((heights - np.float32(low)) * np.float32((LEVELS - 1) / (high - low))).astype(np.uint16)


def _strips(shape: tuple[int, ...]) -> Iterator[Box]:
    rows = max(AT_ONCE * shape[0] // max(math.prod(shape), 1), 1)
    return boxes(shape, (rows, *(max(n, 1) for n in shape[1:])))


def _faces(shape: tuple[int, ...]) -> NDArray[np.intp]:
    # flat steps to the neighbours that share a face, in raster order
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return np.array([-s for s in strides] + strides[::-1], np.intp)


def depth_of(inside: BoolArray, grid: tuple[int, ...]) -> FloatArray:
    """Give the Euclidean distance to the next entry that is not inside.

    As ``scipy.ndimage.distance_transform_edt``, without its arrays of 64 bits.

    Parameters
    ----------
    inside : ((z,) y, x), not true everywhere
    grid : px of the input for each entry, one number per axis

    Returns
    -------
    ((z,) y, x) float32
        px of the input, 0 outside
    """
    nearest = ndimage.distance_transform_edt(
        inside, grid, return_distances=False, return_indices=True
    )
    depth: FloatArray = np.zeros(inside.shape, np.float32)
    for part in _strips(inside.shape):
        for axis, (side, step) in enumerate(zip(part, grid, strict=True)):
            place = np.arange(side.start, side.stop, dtype=np.int32)
            along = nearest[axis][part] - place.reshape(
                [-1 if a == axis else 1 for a in range(inside.ndim)]
            )
            depth[part] += np.square(along.astype(np.float32) * np.float32(step))
        np.sqrt(depth[part], out=depth[part])
    return depth


def prominent_peaks(
    surface: AnyArray, least_rise: float, radius_px: int = 1, mask: BoolArray | None = None
) -> LabelArray:
    """Give a number to every peak that rises enough above the saddle to a higher one.

    The h-maxima transform (Soille, Morphological Image Analysis, 2003, section 6.3.4), as
    ``skimage.morphology.h_maxima`` gives it, by one walk down the sorted pixels in which peaks
    meet: of two the lower one is done, and counts if it rises `least_rise` above the place. Of
    equal peaks that meet the first in raster order stays, where the transform marks both.

    Parameters
    ----------
    surface : ((z,) y, x) finite numbers
    least_rise : in the unit of `surface`
    radius_px : pixels within this distance are neighbours, 1 or more; with 1 the corners too
    mask : pixels that are walked over; None for all

    Returns
    -------
    ((z,) y, x) int32
        1 to n at one pixel a peak, in raster order; 0 elsewhere
    """
    from bmz.process.watershed_loops import mark_peaks

    margin = max(radius_px, 1)
    inside = np.ones(surface.shape, np.bool_) if mask is None else mask
    wide = np.pad(np.asarray(surface, np.float32), margin)
    walked = np.flatnonzero(np.pad(inside, margin))
    order = walked[stable_order(-wide.reshape(-1)[walked])]
    steps = _neighbours(wide.shape, radius_px)
    marked, top = np.zeros(wide.size, np.bool_), np.empty(wide.size, np.intp)
    parent = np.full(wide.size, -1, np.intp)
    mark_peaks(marked, parent, top, wide.reshape(-1), order, steps, np.float32(least_rise))
    inner = tuple(slice(margin, -margin) for _ in range(wide.ndim))
    peaks = marked.reshape(wide.shape)[inner]
    return np.where(peaks, np.cumsum(peaks.reshape(-1)).reshape(peaks.shape), 0).astype(np.int32)


def _neighbours(shape: tuple[int, ...], radius_px: int) -> NDArray[np.intp]:
    # flat steps to every pixel of the ball but its middle
    reach = max(radius_px, 1)
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    ball = [
        step
        for step in product(range(-reach, reach + 1), repeat=len(shape))
        if any(step) and (radius_px <= 1 or sum(s * s for s in step) <= radius_px**2)
    ]
    return np.array([np.dot(step, strides) for step in ball], np.intp)


@dataclass(frozen=True)
class DistanceSettings:
    """The parameters of the recipe."""

    threshold: Annotated[float, Knob("foreground is what lies above; -1: by Otsu's method")] = 0.5
    channel: Annotated[int, Knob("channel of the foreground, counted from 0", 0)] = 0
    neck: Annotated[
        float, Knob("how much narrower a neck is than the objects beside it, px", 0, grows=1)
    ] = 0.5
    sigma: Annotated[float, Knob("smoothing of the distance, px of the input", 0, grows=1)] = 1.0


def label_by_distance(
    output: AnyArray, grid: tuple[int, ...], settings: DistanceSettings
) -> Labelled:
    """Cut a foreground where it is narrow.

    The distance to the background has a peak in the middle of each object. Peaks that rise by less
    than `neck` above the saddle between them are one object; the watershed of the distance from
    the others are the objects.

    Parameters
    ----------
    output : (c, (z,) y, x), a foreground map or mask
    grid : spacing of the map, px of the input; distances heed it
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``; the score of an object is the mean of its foreground

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    from skimage.segmentation import watershed  # here: it takes long to import

    values = one_map("distance_watershed", output, settings.channel)
    inside = values > threshold_of(values, settings.threshold)
    depth = np.zeros(values.shape, np.float32)
    if not inside.all():
        depth = depth_of(inside, grid)
    if settings.sigma > 0:
        depth = ndimage.smoothed(depth, [settings.sigma / step for step in grid])
    seeds = prominent_peaks(depth, settings.neck, mask=inside)
    labels = in_raster_order(on_input_grid(watershed(-depth, seeds, mask=inside), grid)).labels
    return Labelled(labels, mean_of_each(labels, on_input_grid(values, grid)))


def threshold_of_whole_map(
    maps: LazyArray,
    parameters: Mapping[str, Value],
) -> dict[str, Value]:
    """Find the threshold if it is to be found by Otsu's method, as `Recipe.of_whole_map` says."""
    channel = int(parameters["channel"])
    if not 0 <= channel < maps.shape[0]:
        raise ChannelsDiffer("distance_watershed", channel_words(channel), maps.shape[0])
    return {"threshold": streamed_otsu(maps, channel)} if parameters["threshold"] == OTSU else {}


DISTANCE_WATERSHED = Recipe(
    name="distance_watershed",
    what="one foreground map: its regions, cut where they are narrow",
    source="Meyer 1994, doi 10.1016/0165-1684(94)90060-4; h-maxima of the distance transform",
    label=label_by_distance,
    in_blocks=InBlocks(),
    of_whole_map=threshold_of_whole_map,
    settings=DistanceSettings,
)
"""The recipe of foreground maps whose objects touch."""

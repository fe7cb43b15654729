"""Watersheds, and the label recipe ``distance_watershed``: foreground split where it is narrow."""

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
)
from bmz.base.axes import Box, boxes
from bmz.base.values import dataclass
from bmz.process.blocks import OTSU, streamed_otsu, threshold_of
from bmz.process.object_columns import scored
from bmz.process.recipe import SHARES, InBlocks, Knob, Labelled, Recipe, Value
from bmz.process.relabel import (
    FAR_PLACE,
    ChannelsDiffer,
    channel_words,
    in_raster_order,
    mean_of_each,
    on_input_grid,
    one_map,
)

AT_ONCE = 1 << 16
"""Number of pixels to process at once, so that they stay in the processor's cache."""

WINDOW, MARGIN = 512, 32
"""Side length of a window that is flooded at once, so that it stays in the processor's cache, and
the smallest margin around it, pixels along y and x."""

STRANGER = (1 << 29) - 1
"""Label of everything beyond a window."""

FLOOD_MARGIN = 48
"""Smallest margin around a window that is flooded by levels, pixels along y and x."""

PLANE = 2

A_LEVEL = 16
"""Pixels per level of a queue."""

LEVELS = 1 << 16
"""Number of levels that heights are quantized to, from 0 to 1 or to the limits of a wider map."""


def flooded(
    surface: AnyArray,
    seeds: LabelArray,
    mask: BoolArray | None = None,
    *,
    least: float = 0,
    leave_some: bool = False,
) -> LabelArray:
    """Grow seeds over a map, the lowest pixels first, until they meet.

    Meyer's flooding (doi 10.1016/0165-1684(94)90060-4) between pixels that share a face, as in
    ``skimage.segmentation.watershed``, with one bucket per level instead of a heap. On a plateau
    all seeds advance by one pixel in turn. Levels of maps between 0 and 1 do not depend on the
    map, so that a part of a map is flooded like the whole.

    Parameters
    ----------
    surface : ((z,) y, x), any unit; NaN counts as the highest value
    seeds : same shape, 1 to 2**29 - 2, 0 where there is no seed
    mask : same shape, pixels that may be flooded; None for all. Seeds outside are ignored
    least : seeds that reach fewer pixels are removed, and their pixels are flooded from the
        others, which keep theirs
    leave_some : keep all seeds if all would be removed

    Returns
    -------
    ((z,) y, x) int32
        number of the seed that reached each pixel, 0 if none did
    """
    from bmz.process.watershed_loops import close_rows

    wide, rows = _rows(surface.shape)
    levels, state = np.zeros(math.prod(wide), np.uint16), np.zeros(math.prod(wide), np.int32)
    _fill(state, levels, rows, (surface, seeds, mask))
    mostly_open = bool(2 * np.count_nonzero(state < 0) > surface.size)
    if mostly_open and surface.ndim == PLANE and surface.size > (2 * WINDOW) ** 2:
        _flood_windows(state.reshape(wide)[1:-1, 1:-1], levels.reshape(wide)[1:-1, 1:-1])
    else:
        _flood(state, levels, _faces(wide), mostly_open=mostly_open)
    if least > 1 and _reopened(state, levels, int(seeds.max(initial=0)), (least, leave_some)):
        _flood(state, levels, _faces(wide), mostly_open=False)
    close_rows(state, rows, surface.shape[-1])
    return state[: surface.size].reshape(surface.shape)


def _rows(shape: tuple[int, ...]) -> tuple[tuple[int, ...], NDArray[np.intp]]:
    # the shape with a margin of one pixel, and the flat position at which each row begins in it
    wide = tuple(size + 2 for size in shape)
    places = np.ravel_multi_index(np.indices(shape[:-1]) + 1, wide[:-1])
    return wide, places.reshape(-1) * wide[-1] + 1


def _fill(
    state: LabelArray,
    levels: NDArray[np.uint16],
    rows: NDArray[np.intp],
    maps: tuple[AnyArray, LabelArray, BoolArray | None],
) -> None:
    # `maps` are surface, seeds and mask
    from bmz.process.watershed_loops import fill_rows

    surface, seeds, mask = maps
    done, everything = 0, np.ones((1, 1), np.bool_)
    low, high = ends = _ends(surface)
    scale, width = np.float32((LEVELS - 1) / (high - low)), surface.shape[-1]
    for part in _strips(surface.shape):
        heights = _finite(np.asarray(surface[part], np.float32), ends).reshape(-1, width)
        start = np.asarray(seeds[part], np.int32).reshape(-1, width)
        free = everything if mask is None else mask[part].reshape(-1, width)
        where = rows[done : done + len(heights)]
        fill_rows(state, levels, where, heights, start, free, np.float32(low), scale)
        done += len(heights)


def _reopened(
    state: LabelArray, levels: NDArray[np.uint16], most: int, small: tuple[float, bool]
) -> bool:
    # reopens pixels of seeds that are too small; returns whether there are any; see `flooded`
    from bmz.process.watershed_loops import count_pixels, reopen

    least, leave_some = small
    pixels = np.zeros(most + 1, np.intp)
    count_pixels(state, pixels)
    there = pixels[1:] > 0
    goes = there & (pixels[1:] < least)
    if not goes.any() or (leave_some and goes.sum() == there.sum()):
        return False
    reopen(state, levels, np.append(False, goes))
    return True


def _flood(
    state: LabelArray, levels: NDArray[np.uint16], steps: NDArray[np.intp], *, mostly_open: bool
) -> None:
    from bmz.process.watershed_loops import spread, take_rim

    rim = np.empty(state.size, _index(state))  # only a small part of it is ever touched
    room = np.zeros(int(levels.max(initial=0)) + 2, np.intp)
    rim = rim[: take_rim(state, levels, steps, rim, room, int(mostly_open))]
    strangers = rim[:0]
    if mostly_open:  # as in all windows
        strange = state[rim] == STRANGER
        strangers, rim = rim[strange], rim[~strange]
    queue, first, last = _begun(room, rim, levels[rim])
    below = np.empty_like(queue)
    below[: strangers.size] = strangers
    spread(state, steps, queue, first, last, below, strangers.size)


def _flood_windows(state: LabelArray, levels: NDArray[np.uint16]) -> None:
    # flooding by levels traverses the whole map, and a large one does not fit into the cache;
    # pixels beyond a window flood it before all others, as in `watershed`
    labels = np.empty_like(state)
    for box in _cores(state.shape):
        margin, known = FLOOD_MARGIN, False
        while not known:
            window, inner = _window(box, margin, state.shape)
            part, heights = np.pad(state[window], 1), np.pad(levels[window], 1)
            for axis, edge in enumerate(window):
                for place, is_cut in ((1, edge.start > 0), (-2, edge.stop < state.shape[axis])):
                    side = (slice(None),) * axis + (place,)
                    strange = (part[side] < 0) & is_cut
                    part[side][strange], heights[side][strange] = STRANGER, 0
            _flood(part.reshape(-1), heights.reshape(-1), _faces(part.shape), mostly_open=True)
            labels[box] = part[1:-1, 1:-1][inner]
            margin, known = 2 * margin, not (labels[box] == STRANGER).any()
    state[:] = labels


def _begun(
    room: NDArray[np.intp], shore: LabelArray, levels: NDArray[np.uint16]
) -> tuple[LabelArray, NDArray[np.intp], NDArray[np.intp]]:
    """Return a queue, and where the pixels of each level begin in it and end so far.

    The initial pixels, `shore`, are at the beginning of their levels, in the given order.
    """
    ends = np.cumsum(room)
    order = np.argsort(levels, kind="stable")
    rising = levels[order]
    nth = np.arange(shore.size)
    begins = np.append(True, rising[1:] != rising[:-1])[: shore.size]
    behind = nth - np.maximum.accumulate(np.where(begins, nth, 0))
    queue = np.empty(ends[-1], shore.dtype)
    queue[ends[rising] + behind] = shore[order]
    return queue, ends[:-1], ends[:-1] + np.bincount(levels, minlength=len(room) - 1)


def _index(state: LabelArray) -> type[np.int32 | np.intp]:
    # dtype of flat positions in a map
    return np.int32 if state.size < FAR_PLACE else np.intp


def watershed(surface: AnyArray, seeds: LabelArray, mask: BoolArray | None = None) -> LabelArray:
    """Grow seeds over a map as `flooded` does, with every float32 value as its own level.

    The labels are those of ``skimage.segmentation.watershed`` 0.26 wherever it defines the order:
    among seed pixels of equal height its order is arbitrary, while here it is raster order.
    A large map is flooded window by window. Everything beyond a window counts as a seed below all
    others: pixels that this seed does not reach cannot be reached from there at all.

    Parameters
    ----------
    surface, seeds, mask : as in `flooded`

    Returns
    -------
    ((z,) y, x) int32
        number of the seed that reached each pixel, 0 if none did
    """
    ends, margin = _ends(surface), MARGIN
    labels = np.zeros(surface.shape, np.int32)
    for box in _cores(surface.shape):
        labels[box] = STRANGER
        while (labels[box] == STRANGER).any():
            window, inner = _window(box, margin, surface.shape)
            part = None if mask is None else mask[window]
            cut = [(s.start > 0, s.stop < n) for s, n in zip(window, surface.shape, strict=True)]
            labels[box] = _within(surface[window], seeds[window], part, ends, cut)[inner]
            margin *= 1 if (labels[box] != STRANGER).all() else 2
    return labels


def _cores(shape: tuple[int, ...]) -> Iterator[Box]:
    sides = (*shape[:-2], WINDOW, WINDOW)[-len(shape) :]
    return boxes(shape, tuple(max(side, 1) for side in sides))


def _window(box: Box, margin: int, shape: tuple[int, ...]) -> tuple[Box, Box]:
    # the box with a margin, cropped to the map, and the position of the box in this window
    window = tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n))
        for s, n in zip(box, shape, strict=True)
    )
    pairs = zip(box, window, strict=True)
    return window, tuple(slice(s.start - w.start, s.stop - w.start) for s, w in pairs)


def _within(
    surface: AnyArray,
    seeds: LabelArray,
    mask: BoolArray | None,
    ends: tuple[float, float],
    cut: list[tuple[bool, bool]],
) -> LabelArray:
    # the labels of a window with cut or uncut sides; `STRANGER` where a wider one is needed
    wide = tuple(size + 2 for size in surface.shape)
    inner = (slice(1, -1),) * surface.ndim
    heights, state = np.zeros(wide, np.float32), np.zeros(wide, np.int32)
    # adding 0 turns -0 into 0, so that zeros are equally high
    heights[inner] = _finite(np.asarray(surface, np.float32), ends) + np.float32(0)
    start = np.where(seeds > 0, seeds, -1)
    state[inner] = start if mask is None else np.where(mask, start, 0)
    lowest = 2 * ends[0] - ends[1]
    for axis, sides in enumerate(cut):
        for place, is_cut in zip((1, -2), sides, strict=True):
            edge = (slice(None),) * axis + (place,)
            strange = (state[edge] < 0) & is_cut
            state[edge][strange], heights[edge][strange] = STRANGER, lowest
    _flood_by_height(state.reshape(-1), heights.reshape(-1), _faces(wide), (lowest, ends[1]))
    labels: LabelArray = np.maximum(state[inner], 0)
    return labels


def _flood_by_height(
    state: LabelArray, heights: FloatArray, steps: NDArray[np.intp], ends: tuple[float, float]
) -> None:
    from bmz.process.watershed_loops import flood, make_room, shores

    shore = np.empty(state.size, _index(state))
    shore = shore[: shores(state, steps, shore)]
    levels = min(state.size // A_LEVEL + 1, LEVELS)
    low, scale = np.float32(ends[0]), np.float32((levels - 1) / (ends[1] - ends[0]))
    room = np.zeros(levels + 1, np.intp)
    make_room(room, state, shore, heights, low, scale)
    queue, first, last = _begun(room, shore, ((heights[shore] - low) * scale).astype(np.uint16))
    bits, heap, below = (
        heights.view(np.uint32),
        np.empty(queue.size, np.int64),
        np.empty_like(queue),
    )
    flood(state, heights, bits, steps, low, scale, queue, first, last, heap, below)


def _ends(surface: AnyArray) -> tuple[float, float]:
    # heights of the lowest and the highest level: 0 and 1, or the limits of a wider map
    low, high = 0.0, 1.0
    for part in _strips(surface.shape):
        heights = np.asarray(surface[part], np.float32)
        finite = heights if np.isfinite(heights.sum()) else heights[np.isfinite(heights)]
        low, high = min(low, float(finite.min(initial=0))), max(high, float(finite.max(initial=1)))
    return low, high


def _finite(heights: FloatArray, ends: tuple[float, float]) -> FloatArray:
    if np.isfinite(heights.sum()):
        return heights
    return np.clip(np.nan_to_num(heights, nan=ends[1]), *ends)


def _strips(shape: tuple[int, ...]) -> Iterator[Box]:
    rows = max(AT_ONCE * shape[0] // max(math.prod(shape), 1), 1)
    return boxes(shape, (rows, *(max(n, 1) for n in shape[1:])))


def _faces(shape: tuple[int, ...]) -> NDArray[np.intp]:
    # flat steps to the neighbours that share a face, in raster order
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return np.array([-s for s in strides] + strides[::-1], np.intp)


def depth_of(inside: BoolArray, grid: tuple[int, ...]) -> FloatArray:
    """Return the Euclidean distance to the nearest pixel that is not inside.

    Like ``scipy.ndimage.distance_transform_edt``, without its 64-bit arrays; a large map is
    processed window by window, each with a margin as wide as its distances.

    Parameters
    ----------
    inside : ((z,) y, x), not True everywhere
    grid : spacing of the map, px of the input, one number per axis

    Returns
    -------
    ((z,) y, x) float32
        px of the input, 0 outside
    """
    depth, margin = np.zeros(inside.shape, np.float32), MARGIN
    for box in _cores(inside.shape):
        known = not inside[box].any()
        while not known:
            window, inner = _window(box, margin, inside.shape)
            seen = _depth_within(inside[window], grid)[inner]
            known = window == tuple(slice(0, n) for n in inside.shape) or bool(
                (seen <= margin * min(grid)).all()
            )
            depth[box] = seen
            margin *= 1 if known else 2
    return depth


def _depth_within(inside: BoolArray, grid: tuple[int, ...]) -> FloatArray:
    depth: FloatArray = np.zeros(inside.shape, np.float32)
    if inside.all():
        return np.full(inside.shape, np.inf, np.float32)
    nearest = ndimage.distance_transform_edt(
        inside, grid, return_distances=False, return_indices=True
    )
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
    """Label every peak that rises at least `least_rise` above the saddle to a higher peak.

    The h-maxima transform (Soille, Morphological Image Analysis, 2003, section 6.3.4), as in
    ``skimage.morphology.h_maxima``: the lower of two peaks that meet counts if it rises
    `least_rise` above their saddle. Of two equal peaks that meet, only the first in raster order
    is kept, while the transform marks both.

    Parameters
    ----------
    surface : ((z,) y, x) finite numbers
    least_rise : in the unit of `surface`
    radius_px : pixels within this distance, 1 or more, are neighbours; with 1 also diagonal ones
    mask : pixels to search; None for all

    Returns
    -------
    ((z,) y, x) int32
        1 to n in raster order, at one pixel per peak; 0 elsewhere
    """
    from bmz.process.watershed_loops import mark_peaks

    margin = max(radius_px, 1)
    walked = np.pad(np.ones(surface.shape, np.bool_) if mask is None else mask, margin)
    wide = np.pad(np.asarray(surface, np.float32), margin)
    marked = np.zeros(wide.size, np.bool_)
    index: type[np.int32 | np.intp] = np.int32 if wide.size < FAR_PLACE else np.intp
    seen, queue = np.zeros(wide.size, index), np.empty(wide.size, index)
    flat, inside = wide.reshape(-1), walked.reshape(-1)
    steps = _neighbours(wide.shape, radius_px)
    mark_peaks(marked, seen, queue, flat, inside, steps, np.float32(least_rise))
    inner = tuple(slice(margin, -margin) for _ in range(wide.ndim))
    peaks = np.nonzero(marked.reshape(wide.shape)[inner])
    numbers = np.zeros(surface.shape, np.int32)
    numbers[peaks] = np.arange(1, len(peaks[0]) + 1)
    return numbers


def _neighbours(shape: tuple[int, ...], radius_px: int) -> NDArray[np.intp]:
    # flat steps to every pixel of the ball except its centre
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
    """Parameters of the recipe."""

    threshold: Annotated[
        float, Knob("foreground is above this value; -1: by Otsu's method", cures=(-1, *SHARES))
    ] = 0.5
    channel: Annotated[int, Knob("channel of the foreground, counted from 0", 0)] = 0
    neck: Annotated[
        float, Knob("how much narrower a neck is than the objects next to it, px", 0, grows=1)
    ] = 0.5
    sigma: Annotated[float, Knob("smoothing of the distance, px of the input", 0, grows=1)] = 1.0


def label_by_distance(
    output: AnyArray, grid: tuple[int, ...], settings: DistanceSettings
) -> Labelled:
    """Split a foreground into objects where it is narrow.

    The distance to the background has a peak at the centre of each object. Peaks that rise by less
    than `neck` above the saddle between them belong to one object; objects are the watershed of
    the distance from the remaining peaks.

    Parameters
    ----------
    output : (c, (z,) y, x), one channel is a foreground map or mask
    grid : spacing of the map, px of the input; distances take it into account
    settings : parameters of the recipe

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``; the score of an object is its mean foreground

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    values = one_map("distance_watershed", output, settings.channel)
    inside = values > threshold_of(values, settings.threshold)
    depth = np.zeros(values.shape, np.float32)
    if not inside.all():
        depth = depth_of(inside, grid)
    if settings.sigma > 0:
        depth = ndimage.smoothed(depth, [settings.sigma / step for step in grid])
    seeds = prominent_peaks(depth, settings.neck, mask=inside)
    labels = in_raster_order(on_input_grid(watershed(-depth, seeds, inside), grid)).labels
    return Labelled(labels, scored(mean_of_each(labels, on_input_grid(values, grid))))


def threshold_of_whole_map(
    maps: LazyArray,
    parameters: Mapping[str, Value],
) -> dict[str, Value]:
    """Compute the threshold if it is set to Otsu's method; see `Recipe.of_whole_map`."""
    channel = int(parameters["channel"])
    if not 0 <= channel < maps.shape[0]:
        raise ChannelsDiffer("distance_watershed", channel_words(channel), maps.shape[0])
    return {"threshold": streamed_otsu(maps, channel)} if parameters["threshold"] == OTSU else {}


DISTANCE_WATERSHED = Recipe(
    name="distance_watershed",
    what="one foreground map: its regions, split where they are narrow",
    source="Meyer 1994, doi 10.1016/0165-1684(94)90060-4; h-maxima of the distance transform",
    label=label_by_distance,
    in_blocks=InBlocks(),
    of_whole_map=threshold_of_whole_map,
    settings=DistanceSettings,
)
"""Label recipe of foreground maps with touching objects."""

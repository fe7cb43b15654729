"""Omnipose's maps for the recipe ``flows``: pixels move to skeletons, one for each cell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, LazyArray, slope
from bmz.base.errors import WrongUsage
from bmz.process.blocks import boxes_of_map
from bmz.process.recipe import Value

STACK = 3

AUTO = "auto"
"""The origin of the maps is inferred from the number of channels."""

STEPS = 200
"""Number of steps that pixels take; each is shorter than the one before."""

SURE = 1.0
"""Hysteresis: cells extend to pixels whose distance is up to this much below the minimum, px."""

FASTER_IN_STACKS = 5.0

BINS = 1 << 14
PERCENTILES = (0.01, 99.99)
"""Percentiles of the divergence at which pixels do not move, and move at full speed."""


def cells_of(distance: AnyArray, least: float) -> BoolArray:
    """Return the pixels of cells: those above `least`, and connected ones slightly below it.

    Parameters
    ----------
    distance : ((z,) y, x), to the edge, px
    least : minimum distance, px
    """
    parts, count = ndimage.label(distance > least - SURE)
    sure = np.zeros(count + 1, np.bool_)
    sure[np.unique(parts[distance > least])] = True
    sure[0] = False
    cells: BoolArray = sure[parts]
    return cells


def skeleton_labels(
    flow: FloatArray, cell: BoolArray, speeds: tuple[float, float], steps: int = STEPS
) -> LabelArray:
    """Label each pixel with the cluster into which it moves.

    Pixels move along the flow, faster the further they are from where flows meet, as measured by
    the divergence of the flow directions. Step t is the mean of this move and the previous one,
    divided by 1 + t, so that pixels retract from the edge of their cell to a skeleton and not to a
    point, however long the cell; ends that touch, diagonals included, are one cell. Source: Cutler
    et al. 2022 (suppressed Euler integration), doi 10.1038/s41592-022-01639-4; omnipose 1.1.4.

    Parameters
    ----------
    flow : (axes, (z,) y, x) float32, any length
    cell : ((z,) y, x), the pixels that move
    speeds : divergence of pixels that stay, and of those that move a whole pixel at first
    steps : number of steps

    Returns
    -------
    ((z,) y, x) int32, 0 background
    """
    from bmz.process.flow_loop import draw_back

    labels = np.zeros(cell.shape, np.int32)
    if not cell.any():
        return labels
    unit = _directions(flow, cell)
    low, high = speeds
    speed = np.clip((_divergence(unit) - low) / max(high - low, 1e-6), 0, 1)
    if cell.ndim == STACK:
        speed *= FASTER_IN_STACKS
    deep = (STACK - cell.ndim) * (1,)  # a plane is a stack of one
    field = np.zeros((*deep, *cell.shape, STACK), np.float32)
    field[..., -cell.ndim :] = np.moveaxis(unit * speed, 0, -1).reshape(*field.shape[:-1], -1)
    places = np.stack(np.nonzero(cell.reshape(field.shape[:-1])), axis=1).astype(np.float32)
    draw_back(places, field, steps)
    ends = tuple(np.rint(places[:, -cell.ndim :]).astype(np.intp).T)
    reached = np.zeros(cell.shape, np.bool_)
    reached[ends] = True
    clusters, _ = ndimage.label(reached, np.ones((3,) * cell.ndim))
    labels[cell] = clusters[ends]
    return labels


def _directions(flow: FloatArray, cell: BoolArray) -> FloatArray:
    length = np.sqrt(np.square(flow, dtype=np.float64).sum(axis=0))
    unit: FloatArray = np.where(cell, flow / np.maximum(length, 1e-6), 0).astype(np.float32)
    return unit


def _divergence(unit: FloatArray) -> FloatArray:
    along = (slope(part, axis) for axis, part in enumerate(unit))
    divergence: FloatArray = sum(along, start=np.zeros(unit.shape[1:], np.float32))
    return divergence


def speeds_of(maps: LazyArray, least: float) -> tuple[float, float]:
    """Return the percentiles of the divergence of all directions, as `skeleton_labels` takes them.

    Parameters
    ----------
    maps : (c, (z,) y, x), flows and distance, read in boxes
    least : distance of a cell, px
    """
    axes = len(maps.shape) - 1
    counts, most = np.zeros(BINS, np.int64), 2.0 * axes  # at an edge the gradient is one-sided
    for box in boxes_of_map(maps):
        wide = tuple(
            slice(max(side.start - 1, 0), min(side.stop + 1, size))
            for side, size in zip(box[1:], maps.shape[1:], strict=True)
        )
        part = np.asarray(maps[(slice(0, axes + 1), *wide)], np.float32)
        flow = np.nan_to_num(part[:axes], nan=0, posinf=0, neginf=0)
        divergence = _divergence(_directions(flow, cells_of(part[axes], least)))
        inner = tuple(
            slice(side.start - edge.start, side.stop - edge.start)
            for side, edge in zip(box[1:], wide, strict=True)
        )
        counts += np.histogram(divergence[inner], BINS, (-most, most))[0]
    shares = np.cumsum(counts) / max(int(counts.sum()), 1) * 100
    middles = (np.arange(BINS) + 0.5) * (2 * most / BINS) - most
    at = np.minimum(np.searchsorted(shares, PERCENTILES), BINS - 1)
    return float(middles[at[0]]), float(middles[at[1]])


def given_speeds(text: str, maps: LazyArray, least: float) -> tuple[float, float]:
    """Read speeds given as ``low,high``; if the text is empty, take those of the maps.

    Raises
    ------
    SpeedsUnclear
        The text is not empty and not two numbers.
    """
    if not text:
        return speeds_of(maps, least)
    try:
        low, high = map(float, text.split(","))
    except ValueError as why:
        raise SpeedsUnclear(text) from why
    return low, high


class SpeedsUnclear(WrongUsage):
    """The speeds of Omnipose's pixels are not two numbers."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"recipe 'flows' cannot read the speeds '{text}': wanted two numbers, low,high",
            hint="leave them out to use those of the map, or give --set speeds=-1.8,1.4",
            code="recipe.speeds",
        )


def speeds_of_whole_map(maps: LazyArray, parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Return the speeds of Omnipose's pixels from the whole map; see `Recipe.of_whole_map`."""
    axes = len(maps.shape) - 1
    if parameters["speeds"] or not is_omnipose(str(parameters["style"]), maps.shape[0], axes):
        return {}
    low, high = speeds_of(maps, float(parameters["cellprob_threshold"]))
    return {"speeds": f"{low!r},{high!r}"}


def omnipose_lengths(channels: int, axes: int, parameters: Mapping[str, Value]) -> tuple[bool, ...]:
    """Return which channel is a distance and therefore a length; a `LengthsFunction`."""
    distance = is_omnipose(str(parameters["style"]), channels, axes)
    return tuple(distance and channel == axes for channel in range(channels))


def gives_omnipose(channels: int, axes: int, stated: Mapping[str, Value]) -> bool:
    """Return whether an output is Omnipose's, by stated parameters and number of channels.

    Flows of planes in a stack have fewer maps than those of a stack, and labels from a declared
    step have one: neither is evidence.
    """
    style = stated.get("style", AUTO)
    return style == "omnipose" or (style == AUTO and channels == axes + 2)


def is_omnipose(style: str, channels: int, axes: int) -> bool:
    """Return whether maps are Omnipose's: by `style`, or if not one map follows the flows."""
    return style == "omnipose" or (style == AUTO and channels != axes + 1)

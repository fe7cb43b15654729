"""Thresholds and other parameters that are taken from a whole map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, LazyArray
from bmz.base.axes import Box, boxes
from bmz.process.recipe import Recipe, Value

BINS = 256
"""Of the histogram of Otsu's method, as scikit-image has it."""

SIDE_AT_ONCE = 1024
"""Of the boxes that are read, px; strips of a wide map would be too large."""


def whole_map_parameters(
    recipe: Recipe,
    maps: LazyArray,
    parameters: Mapping[str, Value],
) -> dict[str, Value]:
    """Replace every parameter that a recipe takes from the map by that of the whole map.

    Parameters
    ----------
    recipe : of the labels
    maps : (c, (z,) y, x), read in boxes
    parameters : complete

    Returns
    -------
    dict
        `parameters` with numbers in place of -1; the same where the recipe takes none

    Raises
    ------
    ChannelsDiffer
        The map has not the channels that the parameters name.
    """
    values = {} if recipe.of_whole_map is None else recipe.of_whole_map(maps, parameters)
    return {**parameters, **values}


def streamed_otsu(maps: LazyArray, channel: int) -> float:
    """Give Otsu's threshold of one map as ``skimage.filters.threshold_otsu`` does, in two passes.

    Parameters
    ----------
    maps : (c, (z,) y, x)
    channel : which of them
    """
    from skimage.filters import threshold_otsu  # here: it takes long to import

    low, high = np.inf, -np.inf
    for values in _parts(maps, channel):
        low, high = min(low, values.min(initial=low)), max(high, values.max(initial=high))
    if not low < high:
        return float(low)  # the only value, or infinity where there is none
    counts = np.zeros(BINS, np.int64)
    edges = np.linspace(low, high, BINS + 1)
    for values in _parts(maps, channel):
        counts += np.histogram(values, BINS, (low, high))[0]
    return float(threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2)))


def _parts(maps: LazyArray, channel: int) -> Iterator[FloatArray]:
    for _, *box in boxes_of_map(maps):
        part = np.asarray(maps[(slice(channel, channel + 1), *box)])
        yield part[np.isfinite(part)]


def boxes_of_map(maps: LazyArray) -> Iterator[Box]:
    """Give the boxes in which a map (c, (z,) y, x) is read; they are cut along y and x only."""
    return boxes(maps.shape, (*maps.shape[:-2], SIDE_AT_ONCE, SIDE_AT_ONCE))


OTSU = -1.0
"""The threshold is found by Otsu's method."""


def threshold_of(values: AnyArray, asked: float) -> float:
    """Give `asked`, or for -1 the threshold that parts the values best.

    Source: Otsu 1979 (doi 10.1109/TSMC.1979.4310076), ``skimage.filters.threshold_otsu``.

    Parameters
    ----------
    values : a map of any shape; values that are no number are left out
    asked : in the unit of the map, or `OTSU`
    """
    from skimage.filters import threshold_otsu  # here: it takes long to import

    if asked != OTSU:
        return asked
    finite = np.isfinite(values)
    known = values.reshape(-1) if finite.all() else values[finite]
    return float(threshold_otsu(known)) if known.size else np.inf

"""Parameters that a recipe takes from the map, taken from the whole map block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from skimage.filters import threshold_otsu

from bmz.base.arrays import FloatArray
from bmz.process.contour import named_channels
from bmz.process.recipe import Recipe, Value
from bmz.process.thresholds import OTSU

BINS = 256
"""Of the histogram of Otsu's method, as scikit-image has it."""

ROWS_AT_ONCE = 512


def whole_map_parameters(
    recipe: Recipe,
    maps: Any,  # noqa: ANN401  (an array of which parts are read)
    parameters: Mapping[str, Value],
) -> dict[str, Value]:
    """Replace every threshold that is to be found by Otsu's method by that of the whole map.

    Parameters
    ----------
    recipe : of the labels
    maps : (c, (z,) y, x), read in strips
    parameters : complete

    Returns
    -------
    dict
        `parameters` with numbers in place of -1; the same where the recipe finds none
    """
    known = dict(parameters)
    places: Mapping[str, int] = {}
    if recipe.name == "distance_watershed":
        places = {"threshold": int(known["channel"])}
    if recipe.name == "contour":
        named = named_channels(str(known["channels"]), maps.shape[0])
        places = {f"{name}_threshold": at for name, at in named.items()}
    for name, at in places.items():
        if known[name] == OTSU:
            known[name] = streamed_otsu(maps, at)
    return known


def streamed_otsu(
    maps: Any,  # noqa: ANN401  (an array of which parts are read)
    channel: int,
) -> float:
    """Give Otsu's threshold of one map as ``skimage.filters.threshold_otsu`` does, in two passes.

    Parameters
    ----------
    maps : (c, (z,) y, x)
    channel : which of them
    """
    low, high = np.inf, -np.inf
    for values in _strips(maps, channel):
        low, high = min(low, values.min(initial=low)), max(high, values.max(initial=high))
    if not low < high:
        return float(high)
    counts = np.zeros(BINS, np.int64)
    edges = np.linspace(low, high, BINS + 1)
    for values in _strips(maps, channel):
        counts += np.histogram(values, BINS, (low, high))[0]
    return float(threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2)))


def _strips(maps: Any, channel: int) -> Iterator[FloatArray]:  # noqa: ANN401  (as above)
    for start in range(0, maps.shape[-2], ROWS_AT_ONCE):
        part = np.asarray(maps[channel, ..., start : start + ROWS_AT_ONCE, :])
        yield part[np.isfinite(part)]

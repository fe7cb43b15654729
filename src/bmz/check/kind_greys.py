"""Features of the grey levels of a plane, its noise, its flat areas and its parts."""

from __future__ import annotations

import math

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, stable_order
from bmz.check.connected import inner, parts_of
from bmz.check.kind_levels import PlaneLevel
from bmz.check.kind_texture import TINY, correlation_with_itself, moments

QUANTILES = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98)
"""Shares of pixels below the grey levels that are compared."""

BINS = 64
"""Bins of the histogram of grey levels."""

LEAST_PART_PX = 9
"""Smaller parts are noise, in px."""


def grey_features(values: FloatArray) -> FloatArray:
    """Describe the distribution of grey levels.

    Parameters
    ----------
    values : (n,) float32, about 0 to 1, ascending

    Returns
    -------
    (n,) float64: quantiles, mean, deviation, moments, the commonest level and its share
    """
    quantiles = values[(np.array(QUANTILES) * (values.size - 1)).astype(int)]
    counts = _counts_in_bins(values, (-0.02, 1.02)) / values.size
    near = np.convolve(counts, np.ones(5), "same")
    low, high = quantiles[4] - quantiles[1], quantiles[7] - quantiles[4]
    filled = np.sqrt(counts)
    return np.concatenate(
        [
            quantiles,
            moments(values),
            [values.mean(), values.std(), near.argmax() / BINS, near.max(), counts.max()],
            [np.log((low + 0.01) / (high + 0.01)), -(counts * np.log(counts + TINY)).sum()],
            [np.abs(np.diff(filled)).sum()],
        ]
    )


def _counts_in_bins(values: FloatArray, ends: tuple[float, float]) -> AnyArray:
    """Count ascending values as `numpy.histogram` does, which looks at each of them."""
    edges = np.histogram_bin_edges(values, BINS, ends)
    places = values.searchsorted(edges)
    places[-1] = values.searchsorted(edges[-1], side="right")
    return np.diff(places)


def flat_features(raw: AnyArray, low: float, high: float) -> FloatArray:
    """Describe how often neighbours are equal: plots and screenshots, not cameras.

    Parameters
    ----------
    raw : (y, x) any dtype, the values of the file
    low, high : lowest and highest value, which count as the ends of the range

    Returns
    -------
    (3,) float64: shares of equal neighbours at the low end, at the high end, and between
    """
    height, width = raw.shape
    flat = raw.reshape(-1)
    # rows one behind the other, for NumPy takes longer for parts of rows
    equal = np.zeros((height - 1) * width, np.bool_)
    count = equal.size - 1
    here = flat[:count]
    np.equal(here, flat[1 : count + 1], out=equal[:count])
    for step in (width, width + 1):
        equal[:count] &= here == flat[step : step + count]
    equal.reshape(-1, width)[:, -1] = False  # the next pixel is in another row
    if raw.dtype.kind != "f":  # NumPy compares whole numbers with whole numbers sooner
        low, high = math.floor(low), math.ceil(high)
    ends = [equal[:count] & part for part in (here <= low, here >= high)]
    dark, bright = map(np.count_nonzero, ends)
    between = np.count_nonzero(equal) - dark - bright
    shares: FloatArray = np.array([dark, bright, between]) / ((height - 1) * (width - 1))
    return shares


def noise_features(level: PlaneLevel) -> FloatArray:
    """Describe what is finer than the finest band, and how it grows with brightness.

    Parameters
    ----------
    level : the full resolution

    Returns
    -------
    (n,) float64
    """
    rest = level.image - level.smooth
    order = stable_order(level.smooth[::2, ::2].ravel())
    sizes = np.abs(rest[::2, ::2]).ravel()[order]
    quarter = max(1, len(sizes) // 4)
    strengths = np.array(
        [np.median(sizes[k * quarter : (k + 1) * quarter]) for k in range(4)], np.float64
    )
    logs = np.log(strengths + 1e-4)
    right, down = correlation_with_itself(rest, 0, 1), correlation_with_itself(rest, 1, 0)
    ratio = np.log((float(rest.std()) + 1e-4) / (level.deviation + 1e-4))
    return np.array([logs.mean(), *np.diff(logs), right + down, right - down, ratio])


def part_features(level: PlaneLevel) -> FloatArray:
    """Describe the bright and the dark parts that Otsu's threshold (1979) makes.

    Parameters
    ----------
    level : a coarse resolution, some 200 px a side

    Returns
    -------
    (n,) float64: separability, share that is bright, contrast inside parts, and for bright and
    dark parts their number, size, spread of sizes, roundness, fill of their boxes, share of the
    largest
    """
    threshold, separability = _otsu(level.smooth)
    bright: BoolArray = level.smooth > threshold
    share = float(bright.mean())
    sides = [level.smooth[side] for side in (bright, ~bright)]
    spreads = [float(side.std()) if side.size else 0.0 for side in sides]
    means = [float(side.mean()) if side.size else 0.0 for side in sides]
    gap = means[0] - means[1] + 0.01
    features = [separability, share, spreads[0] / gap, spreads[1] / gap]
    return np.array([*features, *_shapes(bright), *_shapes(~bright)])


def _otsu(image: FloatArray) -> tuple[float, float]:
    counts, edges = np.histogram(image, BINS, (0, 1))
    weights = counts / max(1, counts.sum())
    centres = (edges[1:] + edges[:-1]) / 2
    below, moment = weights.cumsum(), (weights * centres).cumsum()
    between = (moment[-1] * below - moment) ** 2 / (below * (1 - below) + TINY)
    at = int(between.argmax())
    variance = float((weights * (centres - moment[-1]) ** 2).sum()) + TINY
    return float(edges[at + 1]), float(between[at]) / variance


def _shapes(mask: BoolArray) -> list[float]:
    parts = parts_of(mask)
    areas = parts.areas()
    kept = np.flatnonzero(areas >= LEAST_PART_PX)
    if kept.size == 0:
        return [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    rims = parts.sums(~inner(mask)[mask])
    height, width = parts.boxes()
    fills = areas[kept] / (height * width)[kept]
    sizes = areas[kept].astype(np.float64)
    round_ = 4 * np.pi * sizes / (rims[kept] * 1.2 + 1.0) ** 2
    logs = np.log(sizes / mask.size)
    return [
        float(np.log(kept.size)),
        float(np.median(logs)),
        float(logs.std()),
        float(np.median(np.log(round_))),
        float(np.average(np.log(round_), weights=sizes)),
        float(np.median(fills)),
        float(sizes.max() / sizes.sum()),
    ]

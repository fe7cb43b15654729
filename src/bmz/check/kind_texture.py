"""Features of the texture of a plane at one resolution."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import BoolArray, FloatArray
from bmz.check.kind_levels import PlaneLevel, block_means, halved, plane_level

TINY = 1e-9
"""Keeps quotients finite."""

AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""The eight neighbours in the order of the clock."""

LAG_PX = 4
"""Distance at which a band is compared with itself, in px."""

STRONG = 2.5
"""A top of a band counts from this many deviations."""


def texture_features(level: PlaneLevel) -> FloatArray:
    """Describe texture; no feature depends on brightness, contrast or mirroring.

    Parameters
    ----------
    level : (y, x) float32

    Returns
    -------
    (n,) float32: moments of the band, curvature, direction, recurrence, tops, links with the next
    coarser band, local binary patterns
    """
    parts = [
        moments(level.band),
        _curvature(level.smooth),
        _direction(level.smooth),
        _recurrence(level.band),
        _tops(level.band),
        _links(level),
        _patterns(level.smooth),
    ]
    return np.concatenate(parts).astype(np.float32)


def moments(values: FloatArray) -> FloatArray:
    """Give skewness and kurtosis, compressed, and the share of the energy above the mean."""
    deviations = values - values.mean()
    squares = deviations * deviations
    variance = float(squares.mean()) + TINY
    third = float((squares * deviations).mean()) / variance**1.5
    fourth = float((squares * squares).mean()) / variance**2
    above = float(squares[deviations > 0].sum()) / (variance * values.size)
    return np.array([np.arcsinh(third), np.log(fourth + TINY), above])


def _curvature(smooth: FloatArray) -> FloatArray:
    """Tell blobs, ridges and saddles apart, bright and dark, by the eigenvalues of the Hessian.

    The ratio of the smaller to the larger is 1 on a round blob, 0 on a ridge, -1 on a saddle
    (after Frangi et al. 1998).
    """
    middle = smooth[1:-1, 1:-1]
    yy = smooth[2:, 1:-1] + smooth[:-2, 1:-1] - 2 * middle
    xx = smooth[1:-1, 2:] + smooth[1:-1, :-2] - 2 * middle
    yx = (smooth[2:, 2:] + smooth[:-2, :-2] - smooth[2:, :-2] - smooth[:-2, 2:]) / 4
    half = (yy + xx) / 2
    root = np.sqrt(((yy - xx) / 2) ** 2 + yx * yx)
    bright = half < 0
    large, small = np.abs(half) + root, np.abs(half) - root
    energy = large * large
    ratio = small / (large + TINY)
    total = float(energy.sum()) + TINY
    features = [float(energy[bright].sum()) / total]
    for side in (bright, ~bright):
        weights, ratios = energy[side], ratio[side]
        weight = float(weights.sum()) + TINY
        mean = float((weights * ratios).sum()) / weight
        features += [mean, float((weights * ratios * ratios).sum()) / weight - mean * mean]
    return np.array(features)


def _direction(smooth: FloatArray) -> FloatArray:
    """Measure how far gradients agree, near by and over the whole, and lie along the axes."""
    dy = smooth[2:, 1:-1] - smooth[:-2, 1:-1]
    dx = smooth[1:-1, 2:] - smooth[1:-1, :-2]
    tensor = [dy * dy, dx * dx, dy * dx]
    energy = tensor[0] + tensor[1]
    total = float(energy.mean()) + TINY
    axial = float((energy - 8 * tensor[2] ** 2 / (energy + TINY)).mean()) / total
    strong = np.sqrt(energy)
    features = [axial, np.log(total / (float(strong.mean()) ** 2 + TINY))]
    for block in (4, 10):
        yy, xx, yx = (block_means(part, block) for part in tensor)
        spread = np.sqrt((yy - xx) ** 2 + 4 * yx * yx)
        features.append(float(spread.mean()) / (float((yy + xx).mean()) + TINY))
    yy_all, xx_all, yx_all = (float(part.mean()) for part in tensor)
    features.append(float(np.hypot(yy_all - xx_all, 2 * yx_all)) / (yy_all + xx_all + TINY))
    return np.array(features)


def _recurrence(band: FloatArray) -> FloatArray:
    """Compare a band with itself a few pixels away in four directions: least, mean and most.

    Relief, as of differential interference contrast, has its shadow on one side.
    """
    lag = min(LAG_PX, min(band.shape) // 3)
    power = float((band * band).mean()) + TINY
    slant = round(lag * 0.7)
    pairs = [
        (band[lag:], band[:-lag]),
        (band[:, lag:], band[:, :-lag]),
        (band[slant:, slant:], band[:-slant, :-slant]),
        (band[slant:, :-slant], band[:-slant, slant:]),
    ]
    likeness = [float((one * other).mean()) / power for one, other in pairs]
    return np.array([min(likeness), float(np.mean(likeness)), max(likeness)])


def _tops(band: FloatArray) -> FloatArray:
    """Count strong bright and dark tops and their share of all, per pixel."""
    limit = STRONG * float(band.std())
    middle = band[1:-1, 1:-1]
    counts = []
    for sign in (1, -1):
        field = sign * band
        top: BoolArray = sign * middle > limit
        for y, x in AROUND:
            top = top & (sign * middle >= _shifted(field, y, x))
        counts.append(float(top.sum()) / middle.size)
    bright, dark = counts
    return np.array([np.log(bright + 1e-4), np.log(dark + 1e-4), np.arcsinh(3e3 * (bright - dark))])


def _shifted(image: FloatArray, y: int, x: int) -> FloatArray:
    height, width = image.shape
    return image[1 + y : height - 1 + y, 1 + x : width - 1 + x]


def _links(level: PlaneLevel) -> FloatArray:
    """Correlate a band with the next coarser one: where fine structure is, and of which sign."""
    coarse = plane_level(halved(level.image))
    band, energy = halved(level.band), halved(level.band * level.band)
    height, width = band.shape
    next_band = coarse.band[:height, :width]
    pairs = [
        (band, next_band),
        (energy, next_band),
        (energy, next_band * next_band),
        (np.sqrt(energy), coarse.smooth[:height, :width]),
        (next_band * next_band, band),
    ]
    ratio = np.log((float(level.band.std()) + 1e-4) / (float(next_band.std()) + 1e-4))
    return np.array([*(correlation(one, other) for one, other in pairs), ratio])


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Give Pearson's correlation of two arrays of one shape; 0 where either is flat."""
    a, b = one - one.mean(), other - other.mean()
    power = float((a * a).mean()) * float((b * b).mean())
    return float((a * b).mean()) / float(np.sqrt(power)) if power > 0 else 0.0


def _patterns(smooth: FloatArray) -> FloatArray:
    """Count local binary patterns of eight neighbours (Ojala et al. 2002), ten kinds, in shares.

    Pattern k has k neighbours in one run that are at least as bright as the middle; the tenth is
    all patterns of several runs.
    """
    middle = smooth[1:-1, 1:-1]
    brighter = [(_shifted(smooth, y, x) >= middle).view(np.uint8) for y, x in AROUND]
    count = np.zeros(middle.shape, np.uint8)
    changes = np.zeros(middle.shape, np.uint8)
    for k, bit in enumerate(brighter):
        count += bit
        changes += bit ^ brighter[k - 1]
    count[changes > 2] = 9  # noqa: PLR2004 - one run has two ends
    shares: FloatArray = np.bincount(count.ravel(), minlength=10) / count.size
    return np.sqrt(shares)

"""Features of the texture of a plane at one resolution."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
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
    double = 2 * _near(smooth, 0, 0)
    yy = _near(smooth, 1, 0) + _near(smooth, -1, 0) - double
    xx = _near(smooth, 0, 1) + _near(smooth, 0, -1) - double
    yx = _near(smooth, 1, 1) + _near(smooth, -1, -1) - _near(smooth, 1, -1)
    yx = (yx - _near(smooth, -1, 1)) / 4
    half = _inside((yy + xx) / 2, smooth)
    root = _inside(np.sqrt(((yy - xx) / 2) ** 2 + yx * yx), smooth)
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
    dy = _inside(_near(smooth, 1, 0) - _near(smooth, -1, 0), smooth)
    dx = _inside(_near(smooth, 0, 1) - _near(smooth, 0, -1), smooth)
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
    width = band.shape[1]
    middle, pixels = _near(band, 0, 0), (band.shape[0] - 2) * (width - 2)
    counts = []
    for sign in (1, -1):
        places = np.flatnonzero(middle > limit if sign > 0 else middle < -limit)
        # few pixels are left, of which some are at the border
        places = places[places % width < width - 2]
        for y, x in AROUND:
            other = _near(band, y, x)
            places = places[sign * middle[places] >= sign * other[places]]
        counts.append(places.size / pixels)
    bright, dark = counts
    return np.array([np.log(bright + 1e-4), np.log(dark + 1e-4), np.arcsinh(3e3 * (bright - dark))])


def _near(image: FloatArray, y: int, x: int) -> FloatArray:
    """Give the pixels a step away from those that do not lie at the border, as one row.

    NumPy takes three times as long for the middle of each row as for rows one behind the other.
    So the two pixels at the border between two rows stay there; `_inside` leaves them out.

    Parameters
    ----------
    image : (height, width), rows one behind the other
    y, x : the step, -1 to 1
    """
    width = image.shape[1]
    start = width + 1 + y * width + x
    return image.reshape(-1)[start : start + (image.shape[0] - 2) * width - 2]


def _inside(near: AnyArray, image: FloatArray) -> AnyArray:
    """Give what was made of `_near` of an image as (height - 2, width - 2)."""
    height, width = image.shape
    rows = np.empty((height - 2) * width, near.dtype)
    rows[: near.size] = near
    return np.ascontiguousarray(rows.reshape(height - 2, width)[:, : width - 2])


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
    middle = _near(smooth, 0, 0)
    brighter = [(_near(smooth, y, x) >= middle).view(np.uint8) for y, x in AROUND]
    count = np.zeros(middle.shape, np.uint8)
    changes = np.zeros(middle.shape, np.uint8)
    for k, bit in enumerate(brighter):
        count += bit
        changes += bit ^ brighter[k - 1]
    np.copyto(count, 9, where=changes > 2)  # noqa: PLR2004 - one run has two ends
    counted = _inside(count, smooth)
    shares = np.array([np.count_nonzero(counted == k) for k in range(10)]) / counted.size
    return np.sqrt(shares)

"""Features of the texture of a plane at one resolution."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.kind_levels import PlaneLevel, block_means, halved

TINY = 1e-9
"""Keeps quotients finite."""

AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""Offsets of the eight neighbours in clockwise order."""

LAG_PX = 4
"""Distance at which a band is compared with itself, in px."""

STRONG = 2.5
"""An extremum of a band counts from this many standard deviations."""


def texture_features(level: PlaneLevel, coarse: PlaneLevel) -> FloatArray:
    """Describe texture; no feature depends on brightness, contrast or mirroring.

    Parameters
    ----------
    level : (y, x) float32
    coarse : the same at half the resolution

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
        _tops(level),
        _links(level, coarse),
        _patterns(level.smooth),
    ]
    return np.concatenate(parts).astype(np.float32)


def product(one: FloatArray, other: FloatArray) -> float:
    """Return the sum of the products of two arrays of the same shape, in one pass.

    Parameters
    ----------
    one, other : contiguous float32 arrays
    """
    return float(np.dot(one.reshape(-1), other.reshape(-1)))


def moments(values: FloatArray) -> FloatArray:
    """Return skewness and kurtosis, compressed, and the share of the energy above the mean.

    Parameters
    ----------
    values : contiguous float32 array
    """
    deviations = values - values.mean()
    squares = deviations * deviations
    variance = float(squares.mean()) + TINY
    # added up in pairs, as NumPy does: a few values make up most of these sums
    third = float((squares * deviations).mean()) / variance**1.5
    fourth = float((squares * squares).mean()) / variance**2
    above = np.maximum(deviations, 0, out=deviations)
    share = product(above, above) / (variance * values.size)
    return np.array([np.arcsinh(third), np.log(fourth + TINY), share])


def _curvature(smooth: FloatArray) -> FloatArray:
    """Distinguish bright and dark blobs, ridges and saddles by the eigenvalues of the Hessian.

    The ratio of the smaller to the larger is 1 on a round blob, 0 on a ridge, -1 on a saddle
    (after Frangi et al. 1998).
    """
    large, small, bright = _bent(smooth)
    features = []
    total = product(large, large) / 4 + TINY
    for side in (bright, 1 - bright):
        larger, smaller = large * side, small * side
        weight = product(larger, large) / 4 + TINY
        # the square of the larger times the ratio, and times its square
        mean = product(larger, small) / 4 / weight
        features += [weight / total, mean, product(smaller, small) / 4 / weight - mean * mean]
    share, *others = features
    return np.array([share, *others[:2], *others[3:]])


def _bent(smooth: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return twice the absolute eigenvalues of the Hessian, 0 between rows, as in `_near`.

    Returns
    -------
    large, small : that of the larger; that of the smaller, with the sign of their product
    bright : 1 if the plane bends down, else 0
    """
    double = 2 * _near(smooth, 0, 0)
    yy = _near(smooth, 1, 0) + _near(smooth, -1, 0)
    yy -= double
    xx = _near(smooth, 0, 1) + _near(smooth, 0, -1)
    xx -= double
    yx = _near(smooth, 1, 1) + _near(smooth, -1, -1)
    yx -= _near(smooth, 1, -1)
    yx -= _near(smooth, -1, 1)
    yx *= np.float32(0.5)
    half, root = yy + xx, np.subtract(yy, xx, out=yy)
    root *= root
    root += np.multiply(yx, yx, out=yx)
    np.sqrt(root, out=root)
    bright = np.less(half, 0).astype(np.float32)
    size = np.abs(half, out=half)
    large, small = size + root, np.subtract(size, root, out=root)
    for values in (large, small):  # where one row ends and the next begins
        values[: values.size - smooth.shape[1] + 2].reshape(-1, smooth.shape[1])[:, -2:] = 0
    return large, small, bright


def _direction(smooth: FloatArray) -> FloatArray:
    """Measure how far gradients agree, locally and globally, and are aligned with the axes."""
    height, width = (side - 2 for side in smooth.shape)
    gradients = np.empty((2, height, width + 2), np.float32)
    for gradient, (y, x) in zip(gradients.reshape(2, -1), ((1, 0), (0, 1)), strict=True):
        np.subtract(_near(smooth, y, x), _near(smooth, -y, -x), out=gradient[:-2])
    gradients[:, :, width:] = 0  # between rows
    dy, dx = gradients
    tensor = dy * dy, dx * dx, dy * dx
    yy_all, xx_all, yx_all = (float(np.add.reduce(part, None)) / height / width for part in tensor)
    energy = tensor[0] + tensor[1]
    total, strong = yy_all + xx_all + TINY, float(np.sqrt(energy).sum()) / height / width
    crossed = tensor[2] / (energy + TINY)
    axial = total - TINY - 8 * product(crossed, tensor[2]) / height / width
    features = [axial / total, np.log(total / (strong**2 + TINY))]
    for block in (4, 10):
        yy, xx, yx = (block_means(part[:, :width], block) for part in tensor)
        spread = np.sqrt((yy - xx) ** 2 + 4 * yx * yx)
        features.append(float(spread.mean()) / (float((yy + xx).mean()) + TINY))
    features.append(float(np.hypot(yy_all - xx_all, 2 * yx_all)) / total)
    return np.array(features)


def _recurrence(band: FloatArray) -> FloatArray:
    """Correlate a band with itself a few pixels away in four directions: minimum, mean, maximum.

    Relief, as in differential interference contrast, has its shadow on one side.
    """
    lag = min(LAG_PX, min(band.shape) // 3)
    power = product(band, band) / band.size + TINY
    slant = round(lag * 0.7)
    steps = (lag, 0), (0, lag), (slant, slant), (slant, -slant)
    likeness = [product_with_itself(band, *step) / power for step in steps]
    return np.array([min(likeness), float(np.mean(likeness)), max(likeness)])


def product_with_itself(image: FloatArray, y: int, x: int) -> float:
    """Return the mean product of pixels and those one step away, over all that have one.

    Parameters
    ----------
    image : contiguous (height, width) float32 array
    y, x : the step; `y` is not negative, and is positive if `x` is negative
    """
    height, width = image.shape
    flat, step = image.reshape(-1), y * width + x
    total = float(np.dot(flat[step:], flat[:-step]))
    # rows lie one behind the other: what is beside one of them belongs to the next
    if x > 0:
        total -= float((image[: height - y - 1, width - x :] * image[y + 1 :, :x]).sum())
    elif x < 0:
        total -= float((image[: height - y + 1, :-x] * image[y - 1 :, width + x :]).sum())
    count: int = (height - y) * (width - abs(x))
    return total / count


def _tops(level: PlaneLevel) -> FloatArray:
    """Count strong bright and dark extrema per pixel, and compare their numbers."""
    limit, band = STRONG * level.deviation, level.band
    width = band.shape[1]
    middle, pixels = _near(band, 0, 0), (band.shape[0] - 2) * (width - 2)
    places = np.flatnonzero(np.abs(middle) > limit)
    # few pixels are left, of which some are at the border
    places = places[places % width < width - 2]
    values = middle[places]
    for y, x in AROUND:
        others = _near(band, y, x)[places]
        kept = np.where(values > 0, values >= others, values <= others)
        places, values = places[kept], values[kept]
    bright = np.count_nonzero(values > 0) / pixels
    dark = places.size / pixels - bright
    return np.array([np.log(bright + 1e-4), np.log(dark + 1e-4), np.arcsinh(3e3 * (bright - dark))])


def _near(image: FloatArray, y: int, x: int) -> FloatArray:
    """Return the pixels a step away from those that do not lie at the border, as one row.

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
    """Return what was made of `_near` of an image as (height - 2, width - 2)."""
    height, width = image.shape
    rows = np.empty((height - 2) * width, near.dtype)
    rows[: near.size] = near
    return np.ascontiguousarray(rows.reshape(height - 2, width)[:, : width - 2])


def _links(level: PlaneLevel, coarse: PlaneLevel) -> FloatArray:
    """Correlate a band with the next coarser one: where fine structure is, and of which sign."""
    energy = halved(level.band * level.band)
    planes = np.stack(
        [halved(level.band), energy, coarse.band, coarse.band * coarse.band, np.sqrt(energy),
         coarse.smooth]
    ).reshape(6, -1)  # fmt: skip
    planes -= planes.mean(1, keepdims=True)
    table = (planes @ planes.T).astype(np.float64)
    links = [_correlation(table, *pair) for pair in ((0, 2), (1, 2), (1, 3), (4, 5), (3, 0))]
    return np.array([*links, np.log((level.deviation + 1e-4) / (coarse.deviation + 1e-4))])


def _correlation(table: FloatArray, one: int, other: int) -> float:
    power = table[one, one] * table[other, other]
    return float(table[one, other] / np.sqrt(power)) if power > 0 else 0.0


def correlation_with_itself(image: FloatArray, y: int, x: int) -> float:
    """Correlate pixels with those one step away; return 0 if either are all equal.

    Parameters
    ----------
    image, y, x : as in `product_with_itself`; the mean is about 0
    """
    parts = image[y:, x:], image[: image.shape[0] - y, : image.shape[1] - x]
    means = [float(part.mean()) for part in parts]
    powers = [
        float((part * part).mean()) - mean**2 for part, mean in zip(parts, means, strict=True)
    ]
    power = powers[0] * powers[1]
    shared = product_with_itself(image, y, x) - means[0] * means[1]
    return shared / float(np.sqrt(power)) if min(powers) > 0 else 0.0


def _patterns(smooth: FloatArray) -> FloatArray:
    """Compute the shares of ten local binary patterns of eight neighbours (Ojala et al. 2002).

    Pattern k has one run of k neighbours that are at least as bright as the centre; the tenth
    comprises all patterns with several runs.
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

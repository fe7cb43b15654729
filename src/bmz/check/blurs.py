"""Blur planes and lines of numbers, compute the Laplacian of planes, and double their size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bmz.base.arrays import FloatArray

REACH, LINE_REACH = 2.6, 4.0
"""Gaussians of planes and of lines of numbers are truncated at these multiples of sigma."""

BLOCK = 65_536
"""Approximate number of pixels computed at a time: more do not fit into the cache."""


def blurred(image: FloatArray, sigma_px: float, out: FloatArray | None = None) -> FloatArray:
    """Blur with a Gaussian, repeating the edge, as `scipy.ndimage.gaussian_filter` does.

    Sums are computed in float32, and for a row at a time instead of a pixel.

    Parameters
    ----------
    image : (y, x) float32
    sigma_px : sigma of the Gaussian
    out : contiguous (y, x) float32 array for the result; None for a new array

    Returns
    -------
    (y, x) float32
    """
    weights = gaussian(sigma_px).astype(np.float32)
    reach = len(weights) - 1
    result = np.empty_like(image) if out is None else out
    for top in range(0, len(image), count := rows_at_a_time(image)):
        part = result[top : top + count]
        down = weighted(rows_between(image, top - reach, top + len(part) + reach), weights)
        wide = _widened(down, reach)
        flat = np.empty(wide.size, np.float32)
        # contiguous rows: NumPy takes three times as long for parts of rows
        flat[: flat.size - 2 * reach] = weighted(wide.ravel(), weights)
        part[...] = flat.reshape(wide.shape)[:, : part.shape[1]]
    return result


def rows_between(image: FloatArray, start: int, stop: int) -> FloatArray:
    """Return rows `start` to `stop` of (..., y, x); beyond the edge, repeat the first or last."""
    if start >= 0 and stop <= image.shape[-2]:
        return image[..., start:stop, :]
    return image.take(np.arange(start, stop), axis=-2, mode="clip")


def rows_at_a_time(image: FloatArray) -> int:
    """Return the number of rows of (y, x) that have about `BLOCK` pixels."""
    width: int = image.shape[1]
    return max(1, BLOCK // width)


def blurred_line(values: FloatArray, sigma: float) -> FloatArray:
    """Blur numbers with a Gaussian, padded with 0, as ``scipy.ndimage.gaussian_filter1d`` does.

    Parameters
    ----------
    values : (n,) float64
    sigma : in entries
    """
    weights = gaussian(sigma, LINE_REACH)
    reach = len(weights) - 1
    line = np.zeros(len(values) + 2 * reach)
    line[reach : reach + len(values)] = values
    return weighted(line, weights)


@lru_cache(maxsize=64)  # a run needs few of them, repeatedly
def gaussian(sigma_px: float, cut_at: float = REACH) -> FloatArray:
    """Return the weights of a Gaussian from its centre outwards; the sum of both halves is 1.

    Parameters
    ----------
    cut_at : distance from the centre at which it is truncated, in multiples of sigma
    """
    reach = int(cut_at * sigma_px + 0.5)
    steps = np.arange(-reach, reach + 1)
    heights = np.exp(-0.5 / sigma_px**2 * steps**2)
    weights: FloatArray = (heights / heights.sum())[reach:]
    weights.flags.writeable = False
    return weights


def _widened(rows: FloatArray, reach: int) -> FloatArray:
    """Repeat the first and the last column `reach` times."""
    height, width = rows.shape
    wide = np.empty((height, width + 2 * reach), rows.dtype)
    wide[:, :reach] = rows[:, :1]
    wide[:, reach : reach + width] = rows
    wide[:, reach + width :] = rows[:, -1:]
    return wide


def weighted(lines: FloatArray, weights: FloatArray) -> FloatArray:
    """Blur along the first axis, which gets shorter by the reach of the weights at either end.

    Parameters
    ----------
    weights : (n,) from the centre outwards; see `gaussian`
    """
    reach = len(weights) - 1
    count = len(lines) - 2 * reach
    total: FloatArray = lines[reach : reach + count] * weights[0]
    pair = np.empty_like(total)
    # from the ends to the middle, as SciPy does: the smallest numbers first
    for step in range(reach, 0, -1):
        near, far = reach - step, reach + step
        np.add(lines[near : near + count], lines[far : far + count], out=pair)
        pair *= weights[step]
        total += pair
    return total


def laplacian(
    image: FloatArray, factor: FloatArray | float, out: FloatArray | None = None
) -> FloatArray:
    """Return the five-point Laplacian times a factor, repeating the edge.

    Parameters
    ----------
    image : (y, x) float32 with sides of at least two pixels; or several images, (k, y, x)
    factor : such as minus the square of sigma; or (k,), one per image
    out : contiguous array for the result; None for a new array

    Returns
    -------
    float32, with the shape of `image`
    """
    factors = np.asarray(factor, np.float32)[..., np.newaxis, np.newaxis]
    response, rows_px = np.empty_like(image) if out is None else out, image.shape[-2]
    # several images are small: all rows at once
    count = rows_px if image.ndim > 2 else rows_at_a_time(image)  # noqa: PLR2004  (y and x)
    for top in range(0, rows_px, count):
        rows = rows_between(image, top - 1, min(top + count, rows_px) + 1)
        here, sides = rows[..., 1:-1, :], response[..., top : top + count, :]
        np.add(rows[..., 2:, :], rows[..., :-2, :], out=sides)
        first, last = (sides[..., at] + here[..., at] for at in (0, -1))
        first, last = first + here[..., 1], last + here[..., -2]
        flat, pixels = sides.reshape(-1), here.reshape(-1)
        flat[:-1] += pixels[1:]
        flat[1:] += pixels[:-1]
        # at the end of a row, the next row has been added
        sides[..., 0], sides[..., -1] = first, last
        sides -= 4 * here
        sides *= factors
    return response


def doubled(image: FloatArray) -> FloatArray:
    """Enlarge to twice the size by linear interpolation between the centres of pixels.

    Parameters
    ----------
    image : (y, x) float32

    Returns
    -------
    (2 y, 2 x) float32
    """
    height, width = image.shape
    padded = np.pad(image, 1, mode="edge")
    result = np.empty((2 * height, 2 * width), np.float32)
    count = rows_at_a_time(result)
    for top in range(0, height, count):
        part = result[2 * top : 2 * (top + count)]
        rows = padded[top : top + count + 2]
        for i, halves in enumerate(_halves(rows)):
            for j, quarters in enumerate(_halves(halves.T)):
                part[i::2, j::2] = quarters.T
    return result


def _halves(lines: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the first and the second half of each line between the first and the last."""
    most, least = lines[1:-1] * np.float32(0.75), lines * np.float32(0.25)
    return most + least[:-2], most + least[2:]

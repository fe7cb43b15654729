"""Blurs of a plane and of a line of numbers, its Laplacian, and the plane at twice its size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bmz.base.arrays import FloatArray

REACH, LINE_REACH = 2.6, 4.0
"""A Gaussian, of a plane or a line of numbers, is cut off at this many times its sigma."""

BLOCK = 65_536
"""About so many pixels are reckoned at a time: more do not fit into the cache."""


def blurred(image: FloatArray, sigma_px: float, out: FloatArray | None = None) -> FloatArray:
    """Blur with a Gaussian, the edge repeated, as `scipy.ndimage.gaussian_filter` does.

    The sums are of float32 and are made for a row at a time instead of for a pixel.

    Parameters
    ----------
    image : (y, x) float32
    sigma_px : its sigma
    out : where the result is written, (y, x) float32 in one piece; a new array without it

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
        # one row behind the other: NumPy takes three times as long for parts of rows
        flat[: flat.size - 2 * reach] = weighted(wide.ravel(), weights)
        part[...] = flat.reshape(wide.shape)[:, : part.shape[1]]
    return result


def rows_between(image: FloatArray, start: int, stop: int) -> FloatArray:
    """Give rows of (..., y, x) from `start` to `stop`; beyond it the first and the last one."""
    if start >= 0 and stop <= image.shape[-2]:
        return image[..., start:stop, :]
    return image.take(np.arange(start, stop), axis=-2, mode="clip")


def rows_at_a_time(image: FloatArray) -> int:
    """Give how many rows of (y, x) are about `BLOCK` pixels."""
    width: int = image.shape[1]
    return max(1, BLOCK // width)


def blurred_line(values: FloatArray, sigma: float) -> FloatArray:
    """Blur numbers with a Gaussian, 0 beyond them, as ``scipy.ndimage.gaussian_filter1d`` does.

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


@lru_cache(maxsize=64)  # of a run few are asked for, again and again
def gaussian(sigma_px: float, cut_at: float = REACH) -> FloatArray:
    """Give the weights of a Gaussian from its middle outwards; the sum of both halves is 1.

    Parameters
    ----------
    cut_at : so many times sigma from its middle
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
    """Blur along the first axis, which gets shorter by what the weights reach at either end.

    Parameters
    ----------
    weights : (n,) from the middle outwards, see `gaussian`
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
    """Give the five-point Laplacian times a factor, the edge repeated.

    Parameters
    ----------
    image : (y, x) float32, two pixels a side or more; or several, (k, y, x)
    factor : such as minus the square of sigma; or (k,), one for each
    out : where the result is written, in one piece; a new array without it

    Returns
    -------
    float32, of the shape of `image`
    """
    factors = np.asarray(factor, np.float32)[..., np.newaxis, np.newaxis]
    response, rows_px = np.empty_like(image) if out is None else out, image.shape[-2]
    # of several images all rows at once: they are small
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
        # where a row ends, the next one has been added
        sides[..., 0], sides[..., -1] = first, last
        sides -= 4 * here
        sides *= factors
    return response


def doubled(image: FloatArray) -> FloatArray:
    """Enlarge to twice the size by linear interpolation between the middles of pixels.

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
    """Give the first and the second half of each line between the first and the last."""
    most, least = lines[1:-1] * np.float32(0.75), lines * np.float32(0.25)
    return most + least[:-2], most + least[2:]

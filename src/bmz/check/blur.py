"""Blurs of a plane, its Laplacian and its enlargement, a few rows at a time: they stay in cache."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import FloatArray

REACH = 2.6
"""A Gaussian is cut off at this many times its sigma."""

LINE_REACH = 4.0
"""That of a line of numbers, likewise."""

BLOCK = 24_576
"""About so many pixels are reckoned at a time: more do not fit into the cache in float64."""


def blurred(image: FloatArray, sigma_px: float) -> FloatArray:
    """Blur with a Gaussian, the edge repeated.

    The sums have the order and the precision of `scipy.ndimage.gaussian_filter`, so that they are
    equal to the last bit, but are made for a row at a time instead of for a pixel.

    Parameters
    ----------
    image : (y, x) float32
    sigma_px : its sigma

    Returns
    -------
    (y, x) float32
    """
    weights = gaussian(sigma_px)
    reach = len(weights) - 1
    result = np.empty_like(image)
    count = _rows_at_a_time(image)
    for top in range(0, len(image), count):
        part = result[top : top + count]
        lines = np.arange(top - reach, top + len(part) + reach)
        rows = image.take(lines, axis=0, mode="clip").astype(np.float64)
        # between the axes, too, SciPy rounds to the precision of the image
        down = _weighted(rows, weights).astype(image.dtype)
        part[...] = _weighted(_widened(down, reach).T, weights).T
    return result


def _rows_at_a_time(image: FloatArray) -> int:
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
    return _weighted(np.pad(values, len(weights) - 1), weights)


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
    return weights


def _widened(rows: FloatArray, reach: int) -> FloatArray:
    """Repeat the first and the last column `reach` times; float64."""
    height, width = rows.shape
    wide = np.empty((height, width + 2 * reach))
    wide[:, :reach] = rows[:, :1]
    wide[:, reach : reach + width] = rows
    wide[:, reach + width :] = rows[:, -1:]
    return wide


def _weighted(lines: FloatArray, weights: FloatArray) -> FloatArray:
    reach = len(weights) - 1
    count = len(lines) - 2 * reach
    total: FloatArray = lines[reach : reach + count] * weights[0]
    pair = np.empty_like(total)
    # from the ends to the middle, as SciPy does: another order would round otherwise
    for step in range(reach, 0, -1):
        near, far = reach - step, reach + step
        np.add(lines[near : near + count], lines[far : far + count], out=pair)
        pair *= weights[step]
        total += pair
    return total


def laplacian(image: FloatArray, factor: float) -> FloatArray:
    """Give the five-point Laplacian times a factor, the edge repeated.

    Parameters
    ----------
    image : (y, x) float32, two pixels a side or more
    factor : such as minus the square of sigma

    Returns
    -------
    (y, x) float32
    """
    sides = np.empty_like(image)
    np.add(image[2:], image[:-2], out=sides[1:-1])
    np.add(image[1], image[0], out=sides[0])
    np.add(image[-1], image[-2], out=sides[-1])
    sides[:, :-1] += image[:, 1:]
    sides[:, -1] += image[:, -1]
    sides[:, 1:] += image[:, :-1]
    sides[:, 0] += image[:, 0]
    sides -= 4 * image
    # rounded once, after the product in float64
    return np.multiply(sides, np.float64(factor), out=sides, casting="same_kind")


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
    count = _rows_at_a_time(result)
    for top in range(0, height, count):
        part = result[2 * top : 2 * (top + count)]
        rows = padded[top : top + count + 2].astype(np.float64)
        for i, halves in enumerate(_halves(rows)):
            for j, quarters in enumerate(_halves(halves.T)):
                part[i::2, j::2] = quarters.T
    return result


def _halves(lines: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give the first and the second half of each line between the first and the last."""
    most, least = lines[1:-1] * 0.75, lines * 0.25
    return most + least[:-2], most + least[2:]

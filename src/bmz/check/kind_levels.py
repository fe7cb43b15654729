"""Prepare a plane at one resolution, from which its kind is determined."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.values import dataclass

SIDE_PX = 320
"""Side of the window of highest contrast that is examined in larger levels, px."""

BLOCK = 16
"""Side of the blocks in which the contrast of windows is compared, in px."""


@dataclass(frozen=True, eq=False)
class PlaneLevel:
    """One resolution of a plane.

    Parameters
    ----------
    image : (y, x) float32, about 0 to 1, the window that is examined
    smooth : the same, blurred by a binomial of sigma 1 px
    band : `smooth` minus `smooth` blurred by a binomial of sigma 2 px: sizes of about 4 to 8 px
    """

    image: FloatArray
    smooth: FloatArray
    band: FloatArray

    @cached_property
    def deviation(self) -> float:
        """Return the standard deviation of the band."""
        return float(self.band.std())


def plane_level(image: FloatArray) -> PlaneLevel:
    """Compute the blurred versions of an image.

    Parameters
    ----------
    image : (y, x) float32
    """
    smooth = _binomial(image, 1)
    return PlaneLevel(image, smooth, smooth - _binomial(smooth, 2))


def halved(image: FloatArray) -> FloatArray:
    """Average 2 x 2 pixels, ignoring an odd last row or column."""
    height, width = (side // 2 * 2 for side in image.shape)
    pairs = image[:height, :width:2] + image[:height, 1:width:2]
    half: FloatArray = pairs[::2] + pairs[1::2]
    half *= np.float32(0.25)
    return half


def fullest_window(image: AnyArray, side: int = SIDE_PX) -> AnyArray:
    """Return the window of highest contrast of a large image, or a small image as a whole.

    Parameters
    ----------
    image : (y, x, ...) any real dtype
    side : side of the window, in px
    """
    if max(image.shape[:2]) <= side:
        return image
    block = min(BLOCK, *image.shape[:2])  # a strip may be narrower
    means = block_means(image if image.ndim == 2 else image.mean(-1), block)  # noqa: PLR2004
    contrast = np.abs(means - np.median(means))
    tall, wide = (min(side // block, n) for n in means.shape)
    inside = window_sums(contrast, tall, wide)
    row, column = divmod(int(inside.argmax()), inside.shape[1])
    top, left = row * block, column * block
    return image[top : top + min(side, image.shape[0]), left : left + min(side, image.shape[1])]


def window_sums(values: FloatArray, tall: int, wide: int) -> FloatArray:
    """Return the sums of the values in all windows, indexed by their first row and column.

    Parameters
    ----------
    values : (y, x)
    tall, wide : size of a window, at most that of `values`
    """
    total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums: FloatArray = (
        total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    )
    return sums


def block_means(image: AnyArray, block: int) -> FloatArray:
    """Average square blocks, ignoring incomplete ones at the end of an axis.

    Parameters
    ----------
    image : (y, x) any real dtype, with sides of at least `block`
    block : side of a block, px
    """
    rows, columns = (size // block for size in image.shape)
    whole = image[: rows * block, : columns * block].astype(np.float32, copy=False)
    # NumPy sums short rows one by one; a matrix product is several times as fast
    tall = np.add.reduce(whole.reshape(rows, block, columns * block), axis=1)
    means: FloatArray = tall.reshape(-1, block) @ np.full(block, 1 / block**2, np.float32)
    return means.reshape(rows, columns)


def _binomial(image: FloatArray, step: int) -> FloatArray:
    """Blur by 1 4 6 4 1 on pixels `step` apart, the edge repeated (Burt and Adelson 1983)."""
    height, width = image.shape
    reach = 2 * step
    tall = np.empty((height + 2 * reach, width), np.float32)
    tall[:reach], tall[reach + height :] = image[0], image[-1]
    tall[reach : reach + height] = image
    # contiguous rows: NumPy takes three times as long for parts of rows
    wide = np.empty((height, width + 2 * reach), np.float32)
    down = _weighted(tall, step, out=wide[:, reach : reach + width])
    wide[:, :reach], wide[:, reach + width :] = down[:, :1], down[:, -1:]
    flat = np.empty(wide.size, np.float32)
    _weighted(wide.reshape(-1), step, out=flat[: wide.size - 2 * reach])
    return np.ascontiguousarray(flat.reshape(wide.shape)[:, :width])


def _weighted(lines: FloatArray, step: int, out: FloatArray) -> FloatArray:
    size = len(out)
    near = [lines[k * step : k * step + size] for k in range(5)]
    inner = near[1] + near[3]
    inner *= 4
    np.add(near[0], near[4], out=out)
    out += inner
    np.multiply(near[2], 6, out=inner)
    out += inner
    out *= np.float32(1 / 16)
    return out

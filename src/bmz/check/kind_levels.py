"""A plane at several resolutions: what is looked at to tell its kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import zip_longest

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.values import dataclass

SIDE_PX = 320
"""A level that is larger is looked at in the window of this side with most contrast."""

LEAST_PX = 12
"""No level is made with a side below this."""

LEVELS = 6
"""So many resolutions at most, each half the one before."""

BLOCK = 16
"""Side of the blocks in which the contrast of windows is compared, in px."""


@dataclass(frozen=True, eq=False)
class PlaneLevel:
    """One resolution of a plane.

    Parameters
    ----------
    image : (y, x) float32, about 0 to 1, the window that is looked at
    smooth : the same, blurred by a binomial of sigma 1 px
    band : `smooth` minus `smooth` blurred by a binomial of sigma 2 px: sizes of about 4 to 8 px
    """

    image: FloatArray
    smooth: FloatArray
    band: FloatArray

    @cached_property
    def deviation(self) -> float:
        """Give the standard deviation of the band."""
        return float(self.band.std())


def plane_level(image: FloatArray) -> PlaneLevel:
    """Blur an image to what is looked at.

    Parameters
    ----------
    image : (y, x) float32
    """
    smooth = _binomial(image, 1)
    return PlaneLevel(image, smooth, smooth - _binomial(smooth, 2))


def plane_levels(image: FloatArray) -> Iterator[PlaneLevel]:
    """Yield a plane at full resolution, at half of it, and so on.

    Parameters
    ----------
    image : (y, x) float32, about 0 to 1
    """
    for _ in range(LEVELS):
        if min(image.shape) < LEAST_PX:
            return
        yield plane_level(fullest_window(image))
        image = halved(image)


def coarser_levels(levels: Sequence[PlaneLevel]) -> Iterator[PlaneLevel]:
    """Yield each level at half its resolution: the next one, where it shows the same window.

    Parameters
    ----------
    levels : as `plane_levels` gives them
    """
    for level, following in zip_longest(levels, levels[1:]):
        half = tuple(side // 2 for side in level.image.shape)
        # of a window the half is smaller than the next level, which has a window of its own
        is_same = following is not None and following.image.shape == half
        yield following if is_same else plane_level(halved(level.image))


def halved(image: FloatArray) -> FloatArray:
    """Average 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in image.shape)
    pairs = image[:height, :width:2] + image[:height, 1:width:2]
    half: FloatArray = pairs[::2] + pairs[1::2]
    half *= np.float32(0.25)
    return half


def fullest_window(image: AnyArray, side: int = SIDE_PX) -> AnyArray:
    """Cut the window with most contrast out of a large image, the whole of a small one.

    Parameters
    ----------
    image : (y, x, ...) any real dtype
    side : of the window, in px
    """
    if max(image.shape[:2]) <= side:
        return image
    rows, columns = (size // BLOCK for size in image.shape[:2])
    means = block_means(image if image.ndim == 2 else image.mean(-1), BLOCK)  # noqa: PLR2004
    contrast = np.abs(means - np.median(means))
    tall, wide = (min(side // BLOCK, n) for n in (rows, columns))
    total = np.pad(contrast.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = (
        total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    )
    row, column = divmod(int(inside.argmax()), inside.shape[1])
    top, left = row * BLOCK, column * BLOCK
    return image[top : top + min(side, image.shape[0]), left : left + min(side, image.shape[1])]


def block_means(image: AnyArray, block: int) -> FloatArray:
    """Average square blocks; what is left at the end of an axis is left out.

    Parameters
    ----------
    image : (y, x) any real dtype, at least `block` a side
    block : side in px
    """
    rows, columns = (size // block for size in image.shape)
    whole = image[: rows * block, : columns * block].astype(np.float32, copy=False)
    # NumPy adds up rows of a few pixels one by one; as a product of matrices it is several times
    # as fast
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
    # rows one behind the other: NumPy takes three times as long for parts of rows
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

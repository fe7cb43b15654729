"""A plane at several resolutions: what is looked at to tell its kind."""

from __future__ import annotations

from collections.abc import Iterator

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


def halved(image: FloatArray) -> FloatArray:
    """Average 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in image.shape)
    a, b, c, d = (image[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
    half: FloatArray = ((a + b) + (c + d)) * np.float32(0.25)
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
    along = whole.reshape(-1, block) @ np.full(block, 1 / block, np.float32)
    means: FloatArray = along.reshape(rows, block, columns).mean(1)
    return means


def _binomial(image: FloatArray, step: int) -> FloatArray:
    """Blur by 1 4 6 4 1 on pixels `step` apart, the edge repeated (Burt and Adelson 1983)."""
    for axis in (0, 1):
        wide = np.pad(
            image, [(2 * step, 2 * step) if a == axis else (0, 0) for a in (0, 1)], "edge"
        )
        size = image.shape[axis]
        outer, inner, middle = (
            wide[_at(axis, k, size)] + wide[_at(axis, 4 * step - k, size)]
            for k in (0, step, 2 * step)
        )
        inner *= 4
        middle *= 3
        outer += inner
        outer += middle
        outer *= np.float32(1 / 16)
        image = outer
    return image


def _at(axis: int, start: int, size: int) -> tuple[slice, ...]:
    part = slice(start, start + size)
    return (part,) if axis == 0 else (slice(None), part)

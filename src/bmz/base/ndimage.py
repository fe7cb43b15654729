"""The functions of ``scipy.ndimage``, which is imported when one of them is called.

SciPy takes as long to import as all else that a small image needs, and most images do without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import boxes

SIDE_PX = 256
"""Of what is filtered at once, along y and x, so that it stays in the processor."""


def in_tiles(
    function: Callable[[AnyArray], AnyArray], values: AnyArray, reach: Sequence[int]
) -> AnyArray:
    """Call a filter on tiles that overlap, and put together what it gives for the whole.

    Filters run along columns, and those of a large plane lie far apart in memory.

    Parameters
    ----------
    function : gives an array of the shape that it takes, and treats every place alike
    values : (..., y, x)
    reach : how far along each axis a value has an influence, entries
    """
    side = max(SIDE_PX, 4 * max(reach[-2:]))
    if max(values.shape[-2:]) <= 2 * side:
        return function(values)
    result: AnyArray | None = None
    for box in boxes(values.shape, (*(max(n, 1) for n in values.shape[:-2]), side, side)):
        seen = tuple(
            slice(max(s.start - r, 0), s.stop + r) for s, r in zip(box, reach, strict=True)
        )
        part = function(np.ascontiguousarray(values[seen]))
        inner = (slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, seen, strict=True))
        if result is None:
            result = np.empty(values.shape, part.dtype)
        result[box] = part[tuple(inner)]
    return function(values) if result is None else result


def smoothed(
    values: AnyArray, sigmas: Sequence[float], *, mode: str = "reflect", truncate: float = 4.0
) -> AnyArray:
    """Smooth as ``scipy.ndimage.gaussian_filter``, with the same bits, tile by tile.

    Parameters
    ----------
    sigmas : standard deviations of the Gaussian, entries along each axis
    mode, truncate : as there
    """
    from scipy import ndimage

    reach = [int(truncate * sigma + 0.5) for sigma in sigmas]
    return in_tiles(
        lambda part: ndimage.gaussian_filter(part, sigmas, mode=mode, truncate=truncate),
        values, reach,
    )  # fmt: skip


def highest_around(values: AnyArray, window: Sequence[int]) -> AnyArray:
    """Return the highest value of a window around each place, as ``scipy.ndimage.maximum_filter``.

    Parameters
    ----------
    window : its sides, odd numbers
    """
    from scipy import ndimage

    reach = [side // 2 for side in window]
    return in_tiles(lambda part: ndimage.maximum_filter(part, tuple(window)), values, reach)


def smooth_peaks(values: AnyArray, sigmas: Sequence[float], window: Sequence[int]) -> AnyArray:
    """Return where a smoothed map is as high as anywhere in a window around.

    The smoothed map, as `smoothed` gives it, is there for a tile at a time.

    Parameters
    ----------
    sigmas : standard deviations of the Gaussian, entries along each axis
    window : its sides, odd numbers
    """
    from scipy import ndimage

    def peaks(part: AnyArray) -> AnyArray:
        smooth = ndimage.gaussian_filter(part, sigmas)
        peak: AnyArray = smooth == ndimage.maximum_filter(smooth, tuple(window))
        return peak

    reach = [int(4 * s + 0.5) + side // 2 for s, side in zip(sigmas, window, strict=True)]
    return in_tiles(peaks, values, reach)


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    if name.startswith("__"):  # whoever looks around wants no import
        raise AttributeError(name)
    from scipy import ndimage

    return getattr(ndimage, name)

"""Functions of ``scipy.ndimage``, which is imported only when one of them is called.

Importing SciPy takes as long as everything else for a small image, and most images do not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import boxes

SIDE_PX = 256
"""Side of a tile that is filtered at once along y and x, chosen to fit in the processor's cache."""


def in_tiles(
    function: Callable[[AnyArray], AnyArray], values: AnyArray, reach: Sequence[int]
) -> AnyArray:
    """Apply a filter to overlapping tiles, and assemble the result for the whole array.

    This is faster for large planes, since filters run along columns, whose entries are far apart in
    memory.

    Parameters
    ----------
    function : filter that preserves the shape and treats every position alike
    values : (..., y, x)
    reach : distance along each axis up to which a value has an influence, in entries
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
    """Apply ``scipy.ndimage.gaussian_filter`` tile by tile, with bitwise the same result.

    Parameters
    ----------
    sigmas : standard deviations of the Gaussian, in entries along each axis
    mode, truncate : as for ``scipy.ndimage.gaussian_filter``
    """
    from scipy import ndimage

    reach = [int(truncate * sigma + 0.5) for sigma in sigmas]
    return in_tiles(
        lambda part: ndimage.gaussian_filter(part, sigmas, mode=mode, truncate=truncate),
        values, reach,
    )  # fmt: skip


def highest_around(values: AnyArray, window: Sequence[int]) -> AnyArray:
    """Apply ``scipy.ndimage.maximum_filter`` tile by tile.

    Parameters
    ----------
    window : sides of the window, odd numbers of entries
    """
    from scipy import ndimage

    reach = [side // 2 for side in window]
    return in_tiles(lambda part: ndimage.maximum_filter(part, tuple(window)), values, reach)


def smooth_peaks(values: AnyArray, sigmas: Sequence[float], window: Sequence[int]) -> AnyArray:
    """Return where a smoothed map equals its maximum in a window around each position.

    The map is smoothed as by `smoothed`, but held in memory for only one tile at a time.

    Parameters
    ----------
    sigmas : standard deviations of the Gaussian, in entries along each axis
    window : sides of the window, odd numbers of entries
    """
    from scipy import ndimage

    def peaks(part: AnyArray) -> AnyArray:
        smooth = ndimage.gaussian_filter(part, sigmas)
        peak: AnyArray = smooth == ndimage.maximum_filter(smooth, tuple(window))
        return peak

    reach = [int(4 * s + 0.5) + side // 2 for s, side in zip(sigmas, window, strict=True)]
    return in_tiles(peaks, values, reach)


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    if name.startswith("__"):  # introspection must not trigger the import
        raise AttributeError(name)
    from scipy import ndimage

    return getattr(ndimage, name)

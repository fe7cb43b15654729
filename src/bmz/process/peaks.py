"""Find the peaks of a map that rise far enough above the saddle to the next higher one."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, LabelArray


def prominent_peaks(
    surface: AnyArray, least_rise: float, radius_px: int = 1, mask: BoolArray | None = None
) -> LabelArray:
    """Give a number to every peak that rises enough above the saddle to a higher one.

    The h-maxima transform (Soille, Morphological Image Analysis, 2003, section 6.3.4), as
    ``skimage.morphology.h_maxima`` gives it, by one walk down the sorted pixels in which peaks
    meet: of two the lower one is done, and counts if it rises `least_rise` above the place. Of
    equal peaks that meet the first in raster order stays, where the transform marks both.

    Parameters
    ----------
    surface : ((z,) y, x) finite numbers
    least_rise : in the unit of `surface`
    radius_px : pixels within this distance are neighbours, 1 or more; with 1 the corners too
    mask : pixels that are walked over; None for all

    Returns
    -------
    ((z,) y, x) int32
        1 to n at one pixel a peak, in raster order; 0 elsewhere
    """
    from bmz.process.peaks_loop import mark_peaks

    margin = max(radius_px, 1)
    inside = np.ones(surface.shape, np.bool_) if mask is None else mask
    wide = np.pad(np.asarray(surface, np.float32), margin)
    walked = np.flatnonzero(np.pad(inside, margin))
    order = walked[np.argsort(-wide.reshape(-1)[walked], kind="stable")]
    steps = _neighbours(wide.shape, radius_px)
    marked, top = np.zeros(wide.size, np.bool_), np.empty(wide.size, np.intp)
    parent = np.full(wide.size, -1, np.intp)
    mark_peaks(marked, parent, top, wide.reshape(-1), order, steps, np.float32(least_rise))
    inner = tuple(slice(margin, -margin) for _ in range(wide.ndim))
    peaks = marked.reshape(wide.shape)[inner]
    return np.where(peaks, np.cumsum(peaks.reshape(-1)).reshape(peaks.shape), 0).astype(np.int32)


def _neighbours(shape: tuple[int, ...], radius_px: int) -> NDArray[np.intp]:
    # flat steps to every pixel of the ball but its middle
    reach = max(radius_px, 1)
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    ball = [
        step
        for step in product(range(-reach, reach + 1), repeat=len(shape))
        if any(step) and (radius_px <= 1 or sum(s * s for s in step) <= radius_px**2)
    ]
    return np.array([np.dot(step, strides) for step in ball], np.intp)

"""How deep each pixel lies inside: the distance to the next pixel outside."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmz.base.arrays import BoolArray, FloatArray
from bmz.base.boxes import boxes

AT_ONCE = 1 << 16
"""Entries for which the distance is computed at once, so that they stay in the processor."""


def depth_of(inside: BoolArray, grid: tuple[int, ...]) -> FloatArray:
    """Give the Euclidean distance to the next entry that is not inside.

    As ``scipy.ndimage.distance_transform_edt``, without its arrays of 64 bits.

    Parameters
    ----------
    inside : ((z,) y, x), not true everywhere
    grid : px of the input for each entry, one number an axis

    Returns
    -------
    ((z,) y, x) float32
        px of the input, 0 outside
    """
    nearest = ndimage.distance_transform_edt(
        inside, grid, return_distances=False, return_indices=True
    )
    depth: FloatArray = np.zeros(inside.shape, np.float32)
    rows = max(AT_ONCE * len(inside) // max(inside.size, 1), 1)
    for part in boxes(inside.shape, (rows, *(max(n, 1) for n in inside.shape[1:]))):
        for axis, (side, step) in enumerate(zip(part, grid, strict=True)):
            place = np.arange(side.start, side.stop, dtype=np.int32)
            along = nearest[axis][part] - place.reshape(
                [-1 if a == axis else 1 for a in range(inside.ndim)]
            )
            depth[part] += np.square(along.astype(np.float32) * np.float32(step))
        np.sqrt(depth[part], out=depth[part])
    return depth

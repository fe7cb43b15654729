"""The compiled loop of `bmz.process.flow_following` for stacks."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import FloatArray
from bmz.process.compiled import compiled


@compiled
def drift(field: FloatArray, starts: FloatArray, steps: int) -> FloatArray:
    """Let each voxel take `steps` steps along a field, with linear interpolation.

    Parameters
    ----------
    field : (z, y, x, 3) float32, px a step
    starts : (voxels, 3) float32, positions in px
    steps : how many; a voxel that is where it was two steps ago swings on without being followed

    Returns
    -------
    (voxels, 3) float32
    """
    high = np.array([n - 1 for n in field.shape[:3]], np.float32)
    ends = starts.copy()
    low, part = np.zeros(3, np.intp), np.zeros(3, np.float32)
    now, before = np.zeros(3, np.float32), np.zeros(3, np.float32)
    earlier, move = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for voxel in range(len(starts)):
        for axis in range(3):
            now[axis] = before[axis] = starts[voxel, axis]
        for step in range(steps):
            for axis in range(3):
                earlier[axis], before[axis] = before[axis], now[axis]
                low[axis] = int(now[axis])
                part[axis] = now[axis] - low[axis]
            move[:] = 0
            for corner in range(8):
                weight = np.float32(1)
                z, y, x = corner >> 2, (corner >> 1) & 1, corner & 1
                weight *= part[0] if z else 1 - part[0]
                weight *= part[1] if y else 1 - part[1]
                weight *= part[2] if x else 1 - part[2]
                if weight == 0:
                    continue
                at = (low[0] + z, low[1] + y, low[2] + x)
                for axis in range(3):
                    move[axis] += weight * field[at[0], at[1], at[2], axis]
            still = True
            for axis in range(3):
                now[axis] = min(max(now[axis] + move[axis], 0), high[axis])
                still = still and now[axis] == earlier[axis]
            if still and step > 0:
                if (steps - 1 - step) % 2:
                    now[:] = before
                break
        ends[voxel] = now
    return ends

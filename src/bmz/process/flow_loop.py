"""The compiled loop of `bmz.process.flow_following` for stacks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import FloatArray
from bmz.process.compiled import compiled


@compiled
def drift(
    field: FloatArray,
    starts: FloatArray,
    steps: int,
    frame: NDArray[np.intp],
    bounds: FloatArray,
) -> FloatArray:
    """Let each voxel take `steps` steps along a field, with linear interpolation.

    Positions run from -1, the first voxel of the whole stack, to 1, the last one. The field is
    read as if -1 and 1 were the outer faces of these voxels, as ``grid_sample`` of PyTorch does
    by default. Every operation is in float32 and in the order of PyTorch, so that rounding leads
    to the same ends.

    Parameters
    ----------
    field : (z + 2, y + 2, x + 2, 3) float32, positions a step, with one more voxel at every end
    starts : (voxels, 3) float32, positions
    steps : how many; of a voxel that comes back to where it was, whole rounds are left out, which
        changes no end (R. P. Brent's way to find them, doi 10.1007/BF01933190)
    frame : (2, 3), the sizes of the whole stack in voxels, and where in it the field begins
    bounds : (2, 3) float32, the lowest and highest position

    Returns
    -------
    (voxels, 3) float32, positions
    """
    ends = starts.copy()
    sheet, row = field.shape[1] * field.shape[2], field.shape[2]
    moves = field.reshape(-1, 3)
    for voxel in range(len(starts)):
        # one by one: whole rows take Numba seconds to compile
        z, y, x = starts[voxel, 0], starts[voxel, 1], starts[voxel, 2]
        kept_z, kept_y, kept_x = z, y, x
        left, since, window = steps, 0, 1
        while left > 0:
            at_z, near_z, far_z = _between(z, frame[0, 0], frame[1, 0])
            at_y, near_y, far_y = _between(y, frame[0, 1], frame[1, 1])
            at_x, near_x, far_x = _between(x, frame[0, 2], frame[1, 2])
            move_z = move_y = move_x = np.float32(0)
            for corner in range(8):
                share = far_x if corner & 1 else near_x
                share *= far_y if corner & 2 else near_y
                share *= far_z if corner & 4 else near_z
                at = (at_z + (corner >> 2)) * sheet
                at += (at_y + (corner >> 1 & 1)) * row + at_x + (corner & 1)
                move_z += share * moves[at, 0]
                move_y += share * moves[at, 1]
                move_x += share * moves[at, 2]
            z = min(max(z + move_z, bounds[0, 0]), bounds[1, 0])
            y = min(max(y + move_y, bounds[0, 1]), bounds[1, 1])
            x = min(max(x + move_x, bounds[0, 2]), bounds[1, 2])
            left, since = left - 1, since + 1
            if z == kept_z and y == kept_y and x == kept_x:
                left %= since
            elif since == window:
                kept_z, kept_y, kept_x = z, y, x
                since, window = 0, 2 * window
        ends[voxel, 0], ends[voxel, 1], ends[voxel, 2] = z, y, x
    return ends


@compiled
def _between(position: float, size: int, begin: int) -> tuple[int, float, float]:
    # the voxel before a position, and how much this and the next one count
    one = np.float32(1)
    place = ((position + one) * np.float32(size) - one) / np.float32(2)
    floor = np.floor(place)
    return int(floor) + 1 - begin, floor + one - place, place - floor

"""Flows: followed to where they end, and compared with those of the labels they gave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bmz.base.arrays import BoolArray, FloatArray, LabelArray
from bmz.process.recipe import Place

STACK = 3

STEPS_A_ROUND = 6
"""How often it is asked whether pixels are back where they were: after one, two, three or six steps
they are, where they rest or swing."""

PIXELS_AT_ONCE = 1 << 10
"""So that the places of a round stay in the cache."""


def follow_flow(
    flow: FloatArray, cell: BoolArray, steps: int, place: Place | None = None
) -> NDArray[np.intp]:
    """Move each pixel of `cell` along `flow`, and give the pixel in which it ends.

    Euler steps of length 1 with the flow interpolated linearly between neighbours; positions are
    kept within the image. The flow is 0 outside `cell`. A pixel that is where it was some steps
    ago will swing on for ever, and is not followed further, with the same result. Source:
    Stringer et al. 2021, as cellpose 3.1.1.3 does it on a CPU.

    In stacks Cellpose reads the flow with ``grid_sample`` of PyTorch, for which an axis of n
    voxels reaches from the outer face of the first voxel to that of the last, while its positions
    reach from middle to middle. So voxel p reads the flow at ``p * n / (n - 1) - 1 / 2``: half a
    voxel too low at the beginning of the axis, right in the middle, half a voxel too high at the
    end, and 0 beyond the stack. Networks are used with this, so it is done here, too.

    Parameters
    ----------
    flow : (2, y, x) or (3, z, y, x) float32, along each axis, px a step, all finite
    cell : ((z,) y, x), the pixels that move
    steps : how many
    place : where in a larger stack this is a part of; None where it is the whole

    Returns
    -------
    (2 or 3, pixels) (z,) y and x, whole px (cut off, not rounded), in raster order of `cell`
    """
    if cell.ndim != STACK:
        return _in_plane(flow, cell, steps)
    return _through_stack(flow, cell, steps, place or Place.of_whole(cell.shape))


def _in_plane(flow: FloatArray, cell: BoolArray, steps: int) -> NDArray[np.intp]:
    from bmz.process.flow_loop import drift_in_plane

    height, width = cell.shape
    field = np.empty((height + 1, width + 1, 2), np.float32)
    np.multiply(np.moveaxis(flow, 0, -1), cell[..., None], out=field[:-1, :-1])
    field[-1] = field[-2]
    field[:, -1] = field[:, -2]
    starts = np.flatnonzero(cell)
    ends = np.empty((2, len(starts)), np.intp)
    room = np.empty((STEPS_A_ROUND + 1, PIXELS_AT_ONCE, 2), np.float32)
    drift_in_plane(field, starts, steps, room, np.empty(PIXELS_AT_ONCE, np.intp), ends)
    return ends


def _through_stack(flow: FloatArray, cell: BoolArray, steps: int, place: Place) -> NDArray[np.intp]:
    from bmz.process.flow_loop import drift

    origin, size = np.array(place.origin), np.array(place.whole)
    reach = (size - 1).astype(np.float32)
    field = np.zeros((*(n + 2 for n in cell.shape), STACK), np.float32)
    # an axis of one voxel has no positions to move between
    field[1:-1, 1:-1, 1:-1] = np.moveaxis(flow * cell, 0, -1)
    field *= np.divide(2, reach, out=np.zeros(STACK), where=reach > 0).astype(np.float32)
    starts = _positions(np.stack(np.nonzero(cell), axis=1) + origin, reach)
    bounds = _positions(np.array([origin, origin + cell.shape - 1]), reach)
    ends = drift(field, starts, steps, np.array([size, origin]), bounds)
    ends += 1
    ends *= np.float32(0.5)
    ends *= reach
    voxels: NDArray[np.intp] = np.clip(ends.astype(np.intp) - origin, 0, np.array(cell.shape) - 1)
    return voxels.T


def _positions(voxels: NDArray[np.intp], reach: FloatArray) -> FloatArray:
    # from -1 at the first voxel to 1 at the last; 0 where there is but one
    positions = voxels.astype(np.float32)
    np.divide(positions, reach, out=positions, where=reach > 0)
    positions *= 2
    positions -= reach > 0
    return positions


HEAT = np.float32(1e20)
"""What flows in at the centre a step. Only ratios count; this leaves room for faint far pixels."""


def flow_errors(labels: LabelArray, flow: FloatArray) -> FloatArray:
    """Give for each object the mean squared distance of two unit flows over its pixels.

    Parameters
    ----------
    labels : (y, x), 1 to n without gaps
    flow : (2, y, x) float32, the predicted flow along y and along x, about 1 px a step

    Returns
    -------
    (n,) float32, 0 (equal) to about 4 (opposite)
    """
    apart, own = flows_of_labels(labels), labels.ravel()
    np.square(np.subtract(apart, flow, out=apart), out=apart)
    apart[0] += apart[1]
    size = np.bincount(own, minlength=1)[1:]
    errors: FloatArray = np.bincount(own, apart[0].ravel(), len(size) + 1)[1:] / size
    return errors.astype(np.float32)


def flows_of_labels(labels: LabelArray) -> FloatArray:
    """Give the unit flow from each pixel of an object towards its centre, by diffusion.

    Heat flows in at the pixel nearest to the mean of the object's pixels and spreads over the
    object by repeated means over 3 x 3 pixels, nothing outside; twice as many steps as the height
    plus the width of the object (each plus 2). The flow is the direction in which heat rises.
    Source: Stringer et al. 2021 (doi 10.1038/s41592-020-01018-x), as cellpose 3.1.1.3 does it.

    Parameters
    ----------
    labels : (y, x), 1 to n without gaps, 0 background

    Returns
    -------
    (2, y, x) float32, flow along y and along x; 0 in the background
    """
    flow = np.zeros((2, *labels.shape), np.float32)
    slices = ndimage.find_objects(labels)
    if slices:
        from bmz.process.flow_loop import flows_by_heat

        boxes = np.array([(y.start, y.stop, x.start, x.stop) for y, x in slices], np.intp)
        largest = ((boxes[:, 1] - boxes[:, 0] + 2) * (boxes[:, 3] - boxes[:, 2] + 2)).max()
        flows_by_heat(labels, boxes, HEAT, np.empty((3, largest), np.float32), flow)
    return flow

"""Cut tiles from tensors, beyond the border of the image too, without padding the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray
from bmz.plan.tiling import PadMode, Tiling


class Tensor(NamedTuple):
    """An array and the letters of its axes, such as ``bcyx``."""

    array: AnyArray
    axes: str


class Job(NamedTuple):
    """One tile of one image of a batch.

    Parameters
    ----------
    image : the position along the axis ``b`` of the inputs
    position : the number of the tile along each axis of the tiling
    """

    image: int
    position: tuple[int, ...]


def stacked_tiles(tensor: Tensor, jobs: Sequence[Job], tiling: Tiling) -> AnyArray:
    """Cut one tile for each job and stack them along ``b``.

    A tensor without ``b`` is the same for all jobs, or there is but one.

    Returns
    -------
    array
        With the axes and dtype of `tensor`; may be a view of it.
    """
    batch = tensor.axes.find("b")
    if batch < 0:
        return _tile(tensor, jobs[0], tiling)
    tiles = [_tile(tensor, job, tiling) for job in jobs]
    return tiles[0] if len(tiles) == 1 else np.concatenate(tiles, axis=batch)


def cut(array: AnyArray, axis: int, start: int, size: int, pad: PadMode) -> AnyArray:
    """Give `size` pixels from `start` on, which may lie outside the array.

    Equal to the same part of ``numpy.pad`` of the array by any width.

    Parameters
    ----------
    array : any shape and dtype, with at least one pixel along `axis`
    axis : the position of the axis
    start : may be negative
    pad : what lies beyond the border
    """
    there = array.shape[axis]
    if start >= 0 and start + size <= there:
        return array[_at(axis, start, start + size)]
    if pad != "constant":
        return np.take(array, _beyond(np.arange(start, start + size), there, pad), axis)
    inside = array[_at(axis, max(start, 0), max(0, min(start + size, there)))]
    before = min(max(0, -start), size)
    after = size - before - inside.shape[axis]
    return np.pad(inside, [(before, after) if i == axis else (0, 0) for i in range(array.ndim)])


def _tile(tensor: Tensor, job: Job, tiling: Tiling) -> AnyArray:
    array, axes = tensor
    if "b" in axes:
        array = array[_at(axes.index("b"), job.image, job.image + 1)]
    along = [pair for pair in zip(tiling.axes, job.position, strict=True) if pair[0].axis in axes]
    # views first: what reaches beyond the border is copied
    along.sort(key=lambda pair: pair[0].padding != (0, 0))
    for axis, i in along:
        array = cut(array, axes.index(axis.axis), axis.starts[i], axis.tile, tiling.pad)
    return array


def _at(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)


def _beyond(at: NDArray[np.int64], there: int, pad: PadMode) -> NDArray[np.int64]:
    if pad == "edge":
        return at.clip(0, there - 1)
    if pad == "symmetric":
        at = at % (2 * there)
        return np.minimum(at, 2 * there - 1 - at)
    period = max(1, 2 * (there - 1))
    at = at % period
    return np.minimum(at, period - at)

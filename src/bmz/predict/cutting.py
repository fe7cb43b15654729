"""Cut tiles from tensors, even across the image border, without padding the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, LazyArray, ToldAhead
from bmz.base.values import dataclass
from bmz.plan.tile_way import PadMode
from bmz.plan.tiling import Tiling


class Tensor(NamedTuple):
    """An array and the letters of its axes, such as ``bcyx``."""

    array: AnyArray
    axes: str


class LazyTensor(NamedTuple):
    """An array that is read and prepared in parts, and the letters of its axes."""

    array: LazyArray
    axes: str


class TileJob(NamedTuple):
    """One tile of one image of a batch.

    Parameters
    ----------
    image : index along the axis ``b`` of the inputs
    position : index of the tile along each axis of the tiling
    """

    image: int
    position: tuple[int, ...]


def stacked_tiles(tensor: Tensor | LazyTensor, jobs: Sequence[TileJob], tiling: Tiling) -> AnyArray:
    """Cut one tile per job and stack the tiles along ``b``.

    If the tensor has no axis ``b``, all jobs share it, or there is only one job.

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


def expect_tiles(tensor: Tensor | LazyTensor, jobs: Sequence[TileJob], tiling: Tiling) -> None:
    """Announce the tiles that are cut next, if the array can load them ahead."""
    if isinstance(tensor.array, ToldAhead):
        for job in jobs:
            box, _ = _box(tensor, job, tiling)
            tensor.array.expect(box)


def cut(array: AnyArray, axis: int, start: int, size: int, pad: PadMode) -> AnyArray:
    """Return `size` pixels beginning at `start`, some of which may lie outside the array.

    The result equals the same part of the array padded with ``numpy.pad`` by any width.

    Parameters
    ----------
    array : any shape and dtype, with at least one pixel along `axis`
    axis : position of the axis
    start : index of the first pixel; may be negative
    pad : how to fill pixels beyond the border
    """
    side = _side(start, size, array.shape[axis], pad)
    return side.filled(array[(slice(None),) * axis + (side.inside,)], axis)


@dataclass(frozen=True)
class _Side:
    """The pixels to read along an axis, and how to pad them to the size of the tile.

    Parameters
    ----------
    inside : the pixels to read
    take : for each pixel of the tile, its index among the pixels read; None to keep them as read
    zeros : number of zeros to add before and after
    """

    inside: slice
    take: NDArray[np.int64] | None = None
    zeros: tuple[int, int] = (0, 0)

    def filled(self, part: AnyArray, axis: int) -> AnyArray:
        """Pad the pixels that were read to the size of the tile."""
        if self.take is not None:
            return np.take(part, self.take, axis)
        if self.zeros != (0, 0):
            return np.pad(part, [self.zeros if i == axis else (0, 0) for i in range(part.ndim)])
        return part


def _side(start: int, size: int, length: int, pad: PadMode) -> _Side:
    if start >= 0 and start + size <= length:
        return _Side(slice(start, start + size))
    if pad != "constant":
        at = _beyond(np.arange(start, start + size), length, pad)
        first = int(at.min())
        return _Side(slice(first, int(at.max()) + 1), at - first)
    low, high = min(max(start, 0), length), max(0, min(start + size, length))
    inside = slice(low, max(high, low))
    before = min(max(0, -start), size)
    return _Side(inside, zeros=(before, size - before - (inside.stop - inside.start)))


def _tile(tensor: Tensor | LazyTensor, job: TileJob, tiling: Tiling) -> AnyArray:
    box, sides = _box(tensor, job, tiling)
    # read once, since the array may be on disk; only padded parts are copied
    part = np.asarray(tensor.array[box])
    for axis, side in sides.items():
        part = side.filled(part, axis)
    return part


def _box(
    tensor: Tensor | LazyTensor, job: TileJob, tiling: Tiling
) -> tuple[tuple[slice, ...], dict[int, _Side]]:
    """Return the part of a tensor to read for a tile, and how to pad each axis."""
    array, axes = tensor
    box = [slice(None)] * len(axes)
    if "b" in axes:
        box[axes.index("b")] = slice(job.image, job.image + 1)
    sides = {
        axes.index(along.axis): _side(
            along.starts[i], along.tile, array.shape[axes.index(along.axis)], tiling.pad(along)
        )
        for along, i in zip(tiling.axes, job.position, strict=True)
        if along.axis in axes
    }
    for axis, side in sides.items():
        box[axis] = side.inside
    return tuple(box), sides


def _beyond(at: NDArray[np.int64], length: int, pad: PadMode) -> NDArray[np.int64]:
    if pad == "edge":
        return at.clip(0, length - 1)
    if pad == "symmetric":
        at = at % (2 * length)
        return np.minimum(at, 2 * length - 1 - at)
    period = max(1, 2 * (length - 1))
    at = at % period
    return np.minimum(at, period - at)

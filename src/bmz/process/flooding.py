"""Flood a map from seeds: the watershed of Meyer, in a time that grows with the pixels alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, LabelArray

LEVELS = 1 << 16
"""Heights are told apart by this many steps, between 0 and 1 or the limits of the map beyond."""


def flooded(surface: AnyArray, seeds: LabelArray, mask: BoolArray | None = None) -> LabelArray:
    """Let seeds grow over a map, the lowest pixels first, until they meet.

    Meyer's flooding (doi 10.1016/0165-1684(94)90060-4) between pixels that share a face, as
    ``skimage.segmentation.watershed``, with a bucket for each level in place of a heap. On a
    plateau all seeds advance by one pixel in turn. Levels of maps between 0 and 1 do not hang on
    the map, so that a part of a map is flooded like the whole.

    Parameters
    ----------
    surface : ((z,) y, x), any unit; NaN is as high as the highest
    seeds : of the same shape, 1 to 2**29 - 1, 0 where there is none
    mask : of the same shape, pixels that may be flooded; None for all. A seed outside is none

    Returns
    -------
    ((z,) y, x) int32
        the number of the seed that reached each pixel, 0 where none did
    """
    wide = tuple(size + 2 for size in surface.shape)
    inner = (slice(1, -1),) * surface.ndim
    levels = np.zeros(wide, np.uint16)
    levels[inner] = _levels(surface)
    state = np.zeros(wide, np.int32)
    state[inner] = np.where(seeds > 0, seeds, -1 - levels[inner].astype(np.int32))
    if mask is not None:
        state[inner][~mask] = 0
    _flood(state.reshape(-1), levels.reshape(-1), _faces(wide))
    return np.maximum(state[inner], 0)


def _flood(state: LabelArray, levels: NDArray[np.uint16], steps: NDArray[np.intp]) -> None:
    from bmz.process.flood_loop import spread, take_rim

    rim = np.empty(state.size, np.intp)  # of which little is ever touched
    room = np.zeros(LEVELS + 1, np.intp)
    rim = rim[: take_rim(state, levels, steps, rim, room)]
    first = np.cumsum(room)
    # those to begin with stand at the beginning of their levels, in raster order
    rim = rim[np.argsort(levels[rim], kind="stable")]
    begun = np.bincount(levels[rim], minlength=LEVELS)
    behind = np.arange(rim.size) - np.repeat(np.cumsum(begun) - begun, begun)
    queue, below = np.empty((2, first[-1]), np.intp)
    queue[first[levels[rim]] + behind] = rim
    spread(state, steps, queue, first[:-1], first[:-1] + begun, below)


def _levels(surface: AnyArray) -> NDArray[np.uint16]:
    heights = np.asarray(surface, np.float32)
    finite = heights if np.isfinite(heights.sum()) else heights[np.isfinite(heights)]
    low, high = (float(end) for end in (finite.min(initial=0), finite.max(initial=1)))
    if finite is not heights:
        heights = np.clip(np.nan_to_num(heights, nan=high), low, high)
    return ((heights - np.float32(low)) * np.float32((LEVELS - 1) / (high - low))).astype(np.uint16)


def _faces(shape: tuple[int, ...]) -> NDArray[np.intp]:
    # flat steps to the neighbours that share a face, in raster order
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return np.array([-s for s in strides] + strides[::-1], np.intp)

"""Labels that were made on a resized image, brought back to the grid of the image part by part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from bmz.base.boxes import Box, boxes
from bmz.engine.label_stack import Labels
from bmz.plan.plan import Blocks
from bmz.process.blocks import Found
from bmz.process.relabel import closed_up
from bmz.process.resize import resized_labels_part
from bmz.write.ome_zarr import scratch_array

UNSEEN = np.iinfo(np.int64).max


def on_image(
    stored: Any,  # noqa: ANN401  (an array of zarr)
    found: Found,
    network: Sequence[int],
    size: Sequence[int],
    folder: Path,
    blocks: Blocks,
) -> Labels:
    """Bring labels back as `bmz.process.resize.resize_labels` does, and number them there.

    An object so small that no pixel of the image has its middle in it is left out.

    Parameters
    ----------
    stored : ((z,) y, x) numbers of the objects as they were found, on the grid of the network
    found : these objects
    network, size : sizes of the resized image and of the image, px
    folder : for the labels on the grid of the image
    blocks : in which they are brought back
    """
    side = blocks.side_for(size[0] if len(size) > 2 else 1)  # noqa: PLR2004  (z, y, x)
    resized = scratch_array(folder, size, np.dtype(np.uint32))
    seen = _Seen(found.count, size)
    for box in boxes(size, (*size[:-2], side, side)):
        part = resized_labels_part(lambda where: np.asarray(stored[where]), network, size, box)
        resized[box] = part
        seen.look(part, box)
    there = Found([seen.first[1:]], [np.concatenate(found.scores)] if found.scores else [])
    numbers, _ = closed_up(np.where(seen.first < UNSEEN, there.numbers(), 0))
    high, wide = seen.longest()
    return Labels(resized, numbers, there, tuple(size), (side, side), (high, wide))


class _Seen:
    """Where each object begins and ends.

    Parameters
    ----------
    count : of the objects
    size : of the image, px
    """

    def __init__(self, count: int, size: Sequence[int]) -> None:
        self._size = tuple(size)
        self.first = np.full(count + 1, UNSEEN)
        """Flat position of the first pixel of each object."""
        self._low = np.full((count + 1, len(size)), UNSEEN)
        self._high = np.zeros((count + 1, len(size)), np.int64)

    def look(self, part: Any, box: Box) -> None:  # noqa: ANN401  (an array of integers)
        """Take the objects of a part into account."""
        starts = np.array([side.start for side in box])
        numbers, begins, inverse = np.unique(part, return_index=True, return_inverse=True)
        place = np.stack(np.unravel_index(begins, part.shape)) + starts[:, None]
        flat = np.ravel_multi_index(tuple(place), self._size)
        self.first[numbers] = np.minimum(self.first[numbers], flat)
        self.first[0] = UNSEEN
        for number, where in zip(
            numbers, ndimage.find_objects(inverse.reshape(part.shape) + 1), strict=True
        ):
            low, high = ([getattr(s, end) for s in where] for end in ("start", "stop"))
            self._low[number] = np.minimum(self._low[number], low + starts)
            self._high[number] = np.maximum(self._high[number], high + starts)

    def longest(self) -> tuple[int, int]:
        """Give the height of the highest object and the width of the widest, px."""
        there = self.first < UNSEEN
        if not there.any():
            return 0, 0
        high, wide = (self._high[there] - self._low[there]).max(axis=0)[-2:]
        return int(high), int(wide)

"""The connected parts of a mask, by its runs: SciPy's take longer to import than to find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray

Integers = NDArray[np.intp]
Indices = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a mask; pixels that share a side belong together.

    Parameters
    ----------
    count : how many there are; the parts are numbered from 0 in raster order of their first pixels
    part : (runs,) the part to which each run of pixels within a row belongs, in raster order
    row, first, stop : (runs,) where each run lies, in px; `stop` is behind its last pixel
    """

    count: int
    part: Integers
    row: Integers
    first: Integers
    stop: Integers

    @property
    def lengths(self) -> Integers:
        """Give the number of pixels of each run."""
        return self.stop - self.first

    def areas(self) -> Integers:
        """Give the number of pixels of each part."""
        return _whole(np.bincount(self.part, self.lengths, minlength=self.count))

    def sums(self, values: AnyArray) -> AnyArray:
        """Add up the values of the pixels of each part, one after the other.

        Parameters
        ----------
        values : (pixels,) of all pixels of the mask, in raster order
        """
        own = np.repeat(self.part, self.lengths)
        return np.bincount(own, values, minlength=self.count)

    def boxes(self) -> tuple[Integers, Integers]:
        """Give the height and the width of the box around each part, in px."""
        sides = []
        for low, high in ((self.row, self.row + 1), (self.first, self.stop)):
            least, most = np.full(self.count, high.max(initial=0)), np.zeros(self.count, np.intp)
            np.minimum.at(least, self.part, low)
            np.maximum.at(most, self.part, high)
            sides.append(most - least)
        height, width = sides
        return height, width


def parts_of(mask: BoolArray) -> Parts:
    """Find the connected parts of a mask.

    They are those of ``scipy.ndimage.label``, in the same order. Runs of successive rows that
    overlap are joined, and each run is led to the first one of its part by halving the way again
    and again (Shiloach and Vishkin 1982, doi 10.1016/0196-6774(82)90008-6).

    Parameters
    ----------
    mask : (y, x)
    """
    height, width = mask.shape
    row_px = width + 1
    # one pixel of ground behind each row, and a row and one pixel before the first
    wide = np.zeros((height + 1) * row_px + 1, np.bool_)
    wide[row_px + 1 :].reshape(height, row_px)[:, :width] = mask
    changes = wide[1:] != wide[:-1]
    ends = np.flatnonzero(changes)
    starts, stops = ends[::2], ends[1::2]
    root = _roots(len(starts), *_overlaps(changes, starts - row_px, stops - row_px))
    is_first = root == np.arange(len(root))
    part = (np.cumsum(is_first) - 1)[root]
    row = starts // row_px
    before = row * row_px
    return Parts(int(np.count_nonzero(is_first)), part, row - 1, starts - before, stops - before)


def _overlaps(changes: BoolArray, starts: Integers, stops: Integers) -> tuple[Indices, Indices]:
    """Pair each run with all those of the row above that it overlaps.

    Parameters
    ----------
    changes : whether a run begins or ends at each pixel, row by row
    starts, stops : pixels above those where each run begins and ends
    """
    passed = np.cumsum(changes, dtype=np.int32)
    begin, end = passed[starts] // 2, (passed[stops - 1] + 1) // 2
    count = np.maximum(end - begin, 0)
    below = np.repeat(np.arange(len(starts), dtype=np.int32), count)
    begin -= np.cumsum(count, dtype=np.int32) - count
    return np.arange(len(below), dtype=np.int32) + np.repeat(begin, count), below


def _roots(count: int, one: Indices, other: Indices) -> Indices:
    """Give the first member of the group of each, where pairs are in one group."""
    root = np.arange(count, dtype=np.int32)
    while one.size:
        a, b = root[one], root[other]
        apart = a != b
        one, other, a, b = one[apart], other[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        above = root[root]
        while not np.array_equal(above, root):
            root, above = above, above[above]
    return root


def _whole(sums: AnyArray) -> Integers:
    return sums.astype(np.intp)


def inner(mask: BoolArray) -> BoolArray:
    """Give the pixels whose four neighbours are in the mask, too; beyond the border all are.

    Parameters
    ----------
    mask : (y, x)
    """
    kept = mask.copy()
    kept[1:] &= mask[:-1]
    kept[:-1] &= mask[1:]
    kept[:, 1:] &= mask[:, :-1]
    kept[:, :-1] &= mask[:, 1:]
    return kept

"""Find connected parts of a mask from its runs, since importing SciPy takes longer than this."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray
from bmz.base.values import dataclass

Integers = NDArray[np.intp]
Indices = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected parts of a mask; pixels that share a side are connected.

    Parameters
    ----------
    count : number of parts, which are numbered from 0 in raster order of their first pixels
    part : (runs,) part that each run of pixels within a row belongs to, in raster order
    row, first, stop : (runs,) position of each run, in px; `stop` is one after its last pixel
    """

    count: int
    part: Integers
    row: Integers
    first: Integers
    stop: Integers

    @property
    def lengths(self) -> Integers:
        """Return the number of pixels of each run."""
        return self.stop - self.first

    def areas(self) -> Integers:
        """Return the number of pixels of each part."""
        return _whole(np.bincount(self.part, self.lengths, minlength=self.count))

    def sums_of(self, image: AnyArray) -> AnyArray:
        """Sum the pixels of an image in each part, run by run.

        Parameters
        ----------
        image : (y, x) with the shape of the mask; 0 outside the mask
        """
        if self.count == 0:
            return np.zeros(0)
        # the sum includes the pixels after a run
        runs = np.add.reduceat(image.ravel(), self.row * image.shape[1] + self.first)
        return np.bincount(self.part, runs, minlength=self.count)


def parts_of(mask: BoolArray) -> Parts:
    """Find the connected parts of a mask.

    The parts and their order equal those of ``scipy.ndimage.label``. Overlapping runs of successive
    rows are joined, and the first run of each part is found by repeated path halving (Shiloach and
    Vishkin 1982, doi 10.1016/0196-6774(82)90008-6).

    Parameters
    ----------
    mask : (y, x)
    """
    height, width = mask.shape
    row_px = width + 1
    # one background pixel after each row, and a row and one pixel before the first
    wide = np.zeros((height + 1) * row_px + 1, np.bool_)
    wide[row_px + 1 :].reshape(height, row_px)[:, :width] = mask
    changes = wide[1:] != wide[:-1]
    ends = np.flatnonzero(changes)
    starts, stops = ends[::2], ends[1::2]
    root = _roots(*_above(changes, starts - row_px, stops - row_px))
    is_first = root == np.arange(len(root))
    part = (np.cumsum(is_first) - 1)[root]
    row = starts // row_px
    before = row * row_px
    return Parts(int(np.count_nonzero(is_first)), part, row - 1, starts - before, stops - before)


def _above(changes: BoolArray, starts: Integers, stops: Integers) -> tuple[Indices, Indices]:
    """Return the first run in the row above that each run overlaps, and the one after the last.

    Parameters
    ----------
    changes : whether a run begins or ends at each pixel, row by row
    starts, stops : pixels above the start and the end of each run
    """
    passed = np.cumsum(changes, dtype=np.int32)
    return passed[starts] // 2, (passed[stops - 1] + 1) // 2


def _roots(begin: Indices, end: Indices) -> Indices:
    """Return the first run of each run's part, given that runs `begin` to `end` belong to it."""
    own = np.arange(len(begin), dtype=np.int32)
    root = _led(np.where(begin < end, begin, own))
    # few runs overlap several others
    more = np.maximum(end - begin - 1, 0)
    below = np.repeat(own, more)
    above = np.arange(len(below), dtype=np.int32) + np.repeat(begin + 1 - _before(more), more)
    while below.size:
        a, b = root[above], root[below]
        apart = a != b
        above, below, a, b = above[apart], below[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        root = _led(root)
    return root


def _led(root: Indices) -> Indices:
    """Replace each entry by the root of its path."""
    further = root[root]
    while (further != root).any():
        root, further = further, further[further]
    return root


def _before(counts: Indices) -> Indices:
    return np.cumsum(counts, dtype=np.int32) - counts


def _whole(sums: AnyArray) -> Integers:
    return sums.astype(np.intp)

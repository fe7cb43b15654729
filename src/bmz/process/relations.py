"""Objects of one label mask and those of another on its grid: which belong together.

One object for each of the other mask (`pair_up`), many in one (`most_shared`), and how an object
is parted among several of the other (`part_among`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray
from bmz.base.values import dataclass

Integers = NDArray[np.int64]

SEVERAL = -1
"""In place of a number: the object is to be parted."""

_SHIFT = 32
"""Bits of a label, so that a pair of them is one number."""


@dataclass(frozen=True)
class Shared:
    """How many pixels each object shares with each of another mask.

    Parameters
    ----------
    own, other : (n,) numbers of the two objects, 0 for the background; each pair once, in order
    pixels : (n,) that lie in both
    """

    own: Integers
    other: Integers
    pixels: Integers

    @property
    def turned(self) -> Shared:
        """The same with the two masks in each other's place."""
        order = np.lexsort((self.own, self.other))
        return Shared(self.other[order], self.own[order], self.pixels[order])


def shared_pixels(own: AnyArray, other: AnyArray) -> Shared:
    """Count the pixels that objects of two masks share.

    Parameters
    ----------
    own, other : labels of the same shape, 0 to 2^32 - 1
    """
    keys = (own.astype(np.uint64) << np.uint64(_SHIFT)) | other.astype(np.uint64)
    pairs, pixels = np.unique(keys, return_counts=True)
    return _of_keys(pairs, pixels)


def sum_shared(parts: Sequence[Shared]) -> Shared:
    """Put the counts of several parts of the same masks together."""
    keys = [
        (part.own.astype(np.uint64) << np.uint64(_SHIFT)) | part.other.astype(np.uint64)
        for part in parts
    ]
    pairs, place = np.unique(np.concatenate(keys), return_inverse=True)
    pixels = np.concatenate([part.pixels for part in parts])
    sums = np.zeros(len(pairs), np.int64)
    np.add.at(sums, place.reshape(-1), pixels)
    return _of_keys(pairs, sums)


def _of_keys(pairs: NDArray[np.uint64], pixels: AnyArray) -> Shared:
    low = np.uint64(2**_SHIFT - 1)
    own, other = (pairs >> np.uint64(_SHIFT)).astype(np.int64), (pairs & low).astype(np.int64)
    return Shared(own, other, pixels.astype(np.int64))


def most_shared(shared: Shared, *, background: bool) -> tuple[Integers, Integers]:
    """Return for each object the one of the other mask that holds most of its pixels.

    Of equals it is the lowest number, and the background last.

    Parameters
    ----------
    background : it may be the background, where that holds more pixels than any object; else it
        is one only where no object of the other mask holds any

    Returns
    -------
    (n,) int64, (n,) int64
        the objects, in order, and for each the number of the other, 0 for none
    """
    rows = shared.own > 0
    own, other, pixels = shared.own[rows], shared.other[rows], shared.pixels[rows].copy()
    if not background:
        pixels[other == 0] = 0
    order = np.lexsort((np.where(other == 0, np.iinfo(np.int64).max, other), -pixels, own))
    objects, first = np.unique(own[order], return_index=True)
    return objects, other[order][first]


@dataclass(frozen=True)
class Pairing:
    """One object for each of another mask, and which pixels are whose.

    Parameters
    ----------
    seeds : (n,) numbers of the objects of the other mask, in order
    holders : (n,) the object that each lies in; 0 for none
    numbers : new number of each object, at its old one; `SEVERAL` for one that is to be parted
    """

    seeds: Integers
    holders: Integers
    numbers: Integers

    @property
    def several(self) -> Integers:
        """The objects that hold several of the other mask, in order."""
        return np.flatnonzero(self.numbers == SEVERAL)

    def new_number(self, other: AnyArray) -> AnyArray:
        """Return the number of the pixels of the other mask: its own, or 0 if nothing holds it.

        Parameters
        ----------
        other : numbers of `seeds`, or 0
        """
        return np.where(self.holder(other) > 0, other, 0)

    def holder(self, other: AnyArray) -> AnyArray:
        """Return the object that holds each pixel's object of the other mask; 0 for none."""
        if not len(self.seeds):
            return np.zeros(other.shape, np.int64)
        place = np.minimum(np.searchsorted(self.seeds, other), len(self.seeds) - 1)
        return np.where(other > 0, self.holders[place], 0)

    def lowest_seed(self, one: int) -> int:
        """Return the lowest number that an object holds."""
        return int(self.seeds[self.holders == one][0])

    def origin(self) -> Integers:
        """Return the old number of each new one, at that; 0 if there is no such object."""
        highest = max(int(self.numbers.max(initial=0)), int(self.seeds.max(initial=0)))
        origin = np.zeros(highest + 1, np.int64)
        alone = np.flatnonzero(self.numbers > 0)
        origin[self.numbers[alone]] = alone
        held = self.holders > 0
        origin[self.seeds[held]] = self.holders[held]
        return origin


def pair_up(shared: Shared, count: int) -> Pairing:
    """Pair each object of the other mask with the one that most of its pixels lie in.

    An object gets the number of the one that it holds; those that hold none are numbered on from
    the highest of the other mask, in their order. What holds several is to be parted, see
    `part_among`.

    Parameters
    ----------
    shared : pixels of objects with those of the other mask, such as cells with nuclei
    count : highest number of the objects
    """
    seeds, holders = most_shared(shared.turned, background=True)
    held = np.bincount(holders, minlength=count + 1)
    numbers = np.zeros(count + 1, np.int64)
    alone = held[holders] == 1
    numbers[holders[alone]] = seeds[alone]
    numbers[held > 1] = SEVERAL
    empty = np.unique(shared.own[shared.own > 0])
    empty = empty[held[empty] == 0]
    numbers[empty] = int(seeds.max(initial=0)) + np.arange(1, len(empty) + 1)
    numbers[0] = 0
    return Pairing(seeds, holders, numbers)


def part_among(inside: BoolArray, seeds: AnyArray) -> AnyArray:
    """Part an object among the seeds in it: each pixel goes to the seed that is nearest within it.

    A watershed of the distance from the seeds (scikit-image), so that parts hang together. A piece
    of the object that no seed reaches goes to the seed that is nearest across the gap.

    Parameters
    ----------
    inside : ((z,) y, x) where the object is
    seeds : of the same shape, numbers of the seeds within it, 0 elsewhere; there is at least one

    Returns
    -------
    ndarray
        of `inside`: the number of a seed where the object is, 0 elsewhere
    """
    from scipy import ndimage  # here: few masks have what is to be parted
    from skimage.segmentation import watershed

    distance, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    parts = watershed(distance, np.where(inside, seeds, 0).astype(np.int64), mask=inside)
    left = inside & (parts == 0)
    parts[left] = seeds[tuple(axis[left] for axis in nearest)]
    result: AnyArray = parts
    return result

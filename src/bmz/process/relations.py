"""Relations between the objects of two label masks on the same grid.

One object for each of the other mask (`pair_up`), many in one (`most_shared`), and the division of
an object among several of the other mask (`part_among`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray
from bmz.base.values import dataclass

Integers = NDArray[np.int64]

SEVERAL = -1
"""In place of a number: the object must be divided."""

_SHIFT = 32
"""Bits of a label, so that a pair of labels fits in one number."""


@dataclass(frozen=True)
class Shared:
    """Number of pixels that each object shares with each object of another mask.

    Parameters
    ----------
    own, other : (n,) numbers of the two objects, 0 for the background; each pair once, in order
    pixels : (n,) number of pixels in both
    """

    own: Integers
    other: Integers
    pixels: Integers

    @property
    def turned(self) -> Shared:
        """Return the same counts with the two masks swapped."""
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
    """Sum the counts of several parts of the same masks."""
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
    """Return for each object the object of the other mask that contains most of its pixels.

    Of equals, the lowest number is returned, and the background last.

    Parameters
    ----------
    background : whether to return the background if it contains more pixels than any object;
        otherwise it is returned only if no object of the other mask contains any

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
    """One object for each object of another mask, and the assignment of pixels.

    Parameters
    ----------
    seeds : (n,) numbers of the objects of the other mask, in order
    holders : (n,) the object that contains each; 0 for none
    numbers : new number of each object, at its old one; `SEVERAL` for one that must be divided
    """

    seeds: Integers
    holders: Integers
    numbers: Integers

    @property
    def several(self) -> Integers:
        """Return the objects that contain several of the other mask, in order."""
        return np.flatnonzero(self.numbers == SEVERAL)

    def new_number(self, other: AnyArray) -> AnyArray:
        """Return the new numbers of pixels of the other mask: unchanged, or 0 if uncontained.

        Parameters
        ----------
        other : numbers of `seeds`, or 0
        """
        return np.where(self.holder(other) > 0, other, 0)

    def holder(self, other: AnyArray) -> AnyArray:
        """Return the object that contains each pixel's object of the other mask; 0 for none."""
        if not len(self.seeds):
            return np.zeros(other.shape, np.int64)
        place = np.minimum(np.searchsorted(self.seeds, other), len(self.seeds) - 1)
        return np.where(other > 0, self.holders[place], 0)

    def lowest_seed(self, one: int) -> int:
        """Return the lowest number that an object contains."""
        return int(self.seeds[self.holders == one][0])

    def origin(self) -> Integers:
        """Return the old number of each object, at its new one; 0 for unused numbers."""
        highest = max(int(self.numbers.max(initial=0)), int(self.seeds.max(initial=0)))
        origin = np.zeros(highest + 1, np.int64)
        alone = np.flatnonzero(self.numbers > 0)
        origin[self.numbers[alone]] = alone
        held = self.holders > 0
        origin[self.seeds[held]] = self.holders[held]
        return origin


def pair_up(shared: Shared, count: int) -> Pairing:
    """Pair each object of the other mask with the object that contains most of its pixels.

    An object gets the number of the one that it contains; objects that contain none are numbered
    in order after the highest number of the other mask. Objects that contain several must be
    divided, see `part_among`.

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
    """Divide an object among its seeds: each pixel goes to the nearest seed within the object.

    A watershed of the distance from the seeds (scikit-image), so that parts are connected. A piece
    of the object that no seed reaches goes to the nearest seed across the gap.

    Parameters
    ----------
    inside : ((z,) y, x) pixels of the object
    seeds : of the same shape, numbers of the seeds within it, 0 elsewhere; there is at least one

    Returns
    -------
    ndarray
        of the shape of `inside`: the number of a seed in the object, 0 elsewhere
    """
    from scipy import ndimage  # here: few masks have objects to divide
    from skimage.segmentation import watershed

    distance, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    parts = watershed(distance, np.where(inside, seeds, 0).astype(np.int64), mask=inside)
    left = inside & (parts == 0)
    parts[left] = seeds[tuple(axis[left] for axis in nearest)]
    result: AnyArray = parts
    return result

"""Merge regions of a graph by average linkage until none are near enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray, LabelArray

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Borders:
    """Where regions touch: one entry for each pair of neighbours.

    Parameters
    ----------
    first, second : (pairs,) numbers of the regions, from 0, first below second
    total : (pairs,) sum of the values along the border
    count : (pairs,) number of values
    """

    first: Indices
    second: Indices
    total: FloatArray
    count: FloatArray

    @classmethod
    def of(cls, one: AnyArray, other: AnyArray, total: AnyArray, count: AnyArray) -> Borders:
        """Add up the entries of the same pair; entries of a region with itself are left out."""
        apart = np.flatnonzero(one != other)
        low = np.minimum(one[apart], other[apart]).astype(np.int64)
        high = np.maximum(one[apart], other[apart]).astype(np.int64)
        most = int(high.max(initial=0)) + 1
        pairs, which = np.unique(low * most + high, return_inverse=True)
        sums = [
            np.bincount(which, values[apart], len(pairs)).astype(np.float64)
            for values in (total, count)
        ]
        return cls(pairs // most, pairs % most, sums[0], sums[1])

    def renumbered(self, number: Indices) -> Borders:
        """Give the borders after regions were joined; `number` says which each now is."""
        return Borders.of(number[self.first], number[self.second], self.total, self.count)


def merged(borders: Borders, regions: int, most: float) -> Indices:
    """Join the two regions whose mean border is lowest, again and again, while it is below `most`.

    Average linkage on a graph of regions (GASP of Bailoni et al. 2022, doi
    10.1109/CVPR52688.2022.01135, with the sum of all values of a border). The mean border of a
    joined region lies between those of its parts, so regions that are each other's nearest can be
    joined at once, and the result is that of one after the other. Of equal borders the one of the
    lower numbers goes first.

    Parameters
    ----------
    borders : of all pairs that touch
    regions : how many there are
    most : a mean below this joins

    Returns
    -------
    (regions,) the new number of each, from 0
    """
    number = np.arange(regions)
    while True:
        mean = borders.total / np.maximum(borders.count, 1)
        near = np.flatnonzero(mean < most)
        if len(near) == 0:
            return np.unique(number, return_inverse=True)[1]
        joined = _mutually_nearest(borders, near, mean, regions)
        into = np.arange(regions)
        into[borders.second[joined]] = borders.first[joined]
        number = into[number]
        borders = borders.renumbered(into)


def _mutually_nearest(borders: Borders, near: Indices, mean: FloatArray, regions: int) -> Indices:
    # each region's best border is the last one written, so the best are written last
    falling = near[np.argsort(mean[near], kind="stable")][::-1]
    best = np.full(regions, -1)
    place = np.arange(len(falling))
    ends = np.concatenate([borders.first[falling], borders.second[falling]])
    np.maximum.at(best, ends, np.concatenate([place, place]))
    first, second = borders.first[falling], borders.second[falling]
    both = (best[first] == place) & (best[second] == place)
    mutual: Indices = falling[both]
    return mutual


def touching(labels: LabelArray, values: AnyArray) -> Borders:
    """Collect the borders of labels: between pixels that share a face, the mean of both values.

    Parameters
    ----------
    labels : ((z,) y, x), regions 1 to n; background is no region
    values : of the same shape
    """
    one, other, means = [], [], []
    for axis in range(labels.ndim):
        low, high = (_shifted(labels, axis, part) for part in (slice(None, -1), slice(1, None)))
        meet = (low != high) & (low > 0) & (high > 0)
        one.append(low[meet] - 1)
        other.append(high[meet] - 1)
        sides = [_shifted(values, axis, part)[meet] for part in (slice(None, -1), slice(1, None))]
        means.append((sides[0].astype(np.float64) + sides[1]) / 2)
    total = np.concatenate(means)
    return Borders.of(np.concatenate(one), np.concatenate(other), total, np.ones(len(total)))


def _shifted(values: AnyArray, axis: int, part: slice) -> AnyArray:
    cut = [slice(None)] * values.ndim
    cut[axis] = part
    return values[tuple(cut)]

"""What maps of affinities hold: pairs of pixels, their noise, and how high the affinities rise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, LazyArray
from bmz.base.values import dataclass
from bmz.process.blocks import boxes_of_map
from bmz.process.relabel import FAR_PLACE

Offset = tuple[int, ...]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Edges:
    """Pairs of pixels, and how much they belong together.

    Parameters
    ----------
    one, other : (edges,) flat positions
    together : (edges,) float32, 0 to 1
    """

    one: LabelArray
    other: LabelArray
    together: FloatArray

    def take(self, which: AnyArray) -> Edges:
        """Return the edges that an index or a mask selects."""
        return Edges(self.one[which], self.other[which], self.together[which])


def edges_of(
    maps: FloatArray, offsets: Sequence[Offset], mask: BoolArray, stride: int = 1
) -> Edges:
    """Collect the pairs of pixels of all offsets that lie within the image and the mask.

    Parameters
    ----------
    maps : (c, (z,) y, x), 1 if a pixel and the one at the offset belong together
    stride : only pixels whose positions along y and x are multiples of this have an edge
    """
    number: type[np.int32 | np.intp] = np.int32 if mask.size < FAR_PLACE else np.intp
    place = np.arange(mask.size, dtype=number).reshape(mask.shape)
    parts = []
    for values, offset in zip(maps, offsets, strict=True):
        here = tuple(
            slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, mask.shape, strict=True)
        )
        there = tuple(
            slice(max(o, 0), n - max(-o, 0)) for o, n in zip(offset, mask.shape, strict=True)
        )
        if any(abs(o) >= n for o, n in zip(offset, mask.shape, strict=True)):
            continue
        both = mask[here] & mask[there]
        if stride > 1:
            both &= _every(mask.shape, stride)[here]
        ends = (place[here], place[there], values[here])
        parts.append(tuple(end.ravel() if both.all() else end[both] for end in ends))
    empty = (np.zeros(0, number), np.zeros(0, number), np.zeros(0, np.float32))
    return Edges(*(np.concatenate(side) for side in zip(empty, *parts, strict=True)))


def _every(shape: tuple[int, ...], stride: int) -> BoolArray:
    chosen = np.zeros(shape, np.bool_)
    chosen[..., ::stride, ::stride] = True
    return chosen


Reader = Callable[[AnyArray], FloatArray]
"""Turns a part of an output into affinities, (c, (z,) y, x), 1 for together."""

NOISE_LEFT = 0.06
"""Noise that does no harm, over the number of axes; what is above is smoothed down to it. The more
channels there are, the farther the lowest of them falls by noise."""

WIDEST_SIGMA = 3.0
"""Of a Gaussian, entries of the map: wider than that, and small objects are gone."""

SIGMAS_SEEN = 2.0

LIKELY = 0.5
"""An affinity above this says that two pixels belong together."""

RANK_OF_FULL = 0.99
"""So many of the affinities that are likely lie below the one that counts as full."""

BINS = 4096


def smoothed(maps: FloatArray, sigma: float) -> FloatArray:
    """Smooth each channel of (c, (z,) y, x) by a Gaussian of `sigma` entries along space."""
    if sigma == 0:
        return maps
    along = (0.0,) + (sigma,) * (maps.ndim - 1)
    smooth: FloatArray = ndimage.smoothed(maps, along, truncate=SIGMAS_SEEN)
    return smooth


def sigma_against_noise(maps: LazyArray, read: Reader) -> float:
    """Return how wide a Gaussian must be so that little noise is left, entries of the map.

    White noise of deviation s is one of s / (2 sqrt(pi) sigma)^(axes/2) behind it. What counts as
    noise is what differs from pixel to pixel, which maps of networks hardly do: half of all pixels
    differ from the mean of their two neighbours by more than that.

    Parameters
    ----------
    maps : (c, (z,) y, x), read in boxes
    read : gives the affinities of a part
    """
    from bmz.process.region_loops import count_differences

    counts = np.zeros(BINS, np.int64)
    for part in _parts(maps, read):
        count_differences(part.reshape(len(part), -1, *part.shape[-2:]), counts)
    # of normal noise the median is 0.67 deviations, and that of the mean of three 1.22 wide
    noise = _value_at(counts, 0.5, lower=True) / (0.6745 * np.sqrt(1.5))
    axes = len(maps.shape) - 1
    left = NOISE_LEFT / axes
    if noise <= left:
        return 0.0
    sigma = (noise / left) ** (2 / axes) / (2 * np.sqrt(np.pi))
    return float(min(sigma, WIDEST_SIGMA))


def full_affinity(maps: LazyArray, read: Reader, sigma: float) -> float:
    """Return the affinity that a map has where it is sure; 1 if it says of no pair "together".

    A network may be sure and still never say more than 0.8. An empty map has nothing to be sure
    of, so only affinities that are more likely than not are looked at.

    Parameters
    ----------
    maps, read : as in `sigma_against_noise`
    sigma : of the smoothing
    """
    from bmz.process.region_loops import count_above

    counts = np.zeros(BINS, np.int64)
    for part in _parts(maps, read):
        count_above(smoothed(part, sigma).reshape(-1), np.float32(LIKELY), counts)
    return LIKELY + (1 - LIKELY) * _value_at(counts, RANK_OF_FULL) if counts.any() else 1.0


def _value_at(counts: AnyArray, rank: float, *, lower: bool = False) -> float:
    """Return the value below which a share of all lies, of counts of equal bins within 0 and 1."""
    if not counts.any():
        return 0.0
    nth = int(np.searchsorted(np.cumsum(counts), rank * counts.sum()))
    return float((nth + (not lower)) / len(counts))


def _parts(maps: LazyArray, read: Reader) -> Iterator[FloatArray]:
    for box in boxes_of_map(maps):
        yield read(np.asarray(maps[box]))

"""Properties of affinity maps: their edges, their noise, and their affinity where certain."""

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
    """Pairs of pixels with their affinities.

    Parameters
    ----------
    one, other : (edges,) flat positions of the two pixels
    together : (edges,) float32 affinities, 0 to 1
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
    """Return the pairs of pixels at all offsets that lie within the image and the mask.

    Parameters
    ----------
    maps : (c, (z,) y, x), 1 if a pixel and the one at the offset belong together
    offsets : one per channel, pixels of the map
    mask : ((z,) y, x)
    stride : only pixels whose positions along y and x are multiples of this have edges
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
"""Converts a part of an output into affinities, (c, (z,) y, x), 1 for together."""

NOISE_LEFT = 0.06
"""Harmless standard deviation of noise, to be divided by the number of axes; stronger noise is
smoothed down to it. The more channels there are, the lower noise makes the lowest of them."""

WIDEST_SIGMA = 3.0
"""Largest sigma of the Gaussian, pixels of the map; a wider one would remove small objects."""

SIGMAS_SEEN = 2.0

LIKELY = 0.5
"""Two pixels with an affinity above this are likely to belong together."""

RANK_OF_FULL = 0.99
"""Quantile of the likely affinities that counts as full affinity."""

BINS = 4096


def smoothed(maps: FloatArray, sigma: float) -> FloatArray:
    """Smooth each channel of (c, (z,) y, x) by a Gaussian of `sigma` pixels along y, x and z."""
    if sigma == 0:
        return maps
    along = (0.0,) + (sigma,) * (maps.ndim - 1)
    smooth: FloatArray = ndimage.smoothed(maps, along, truncate=SIGMAS_SEEN)
    return smooth


def sigma_against_noise(maps: LazyArray, read: Reader) -> float:
    """Return the sigma of a Gaussian that reduces noise to `NOISE_LEFT`, pixels of the map.

    The Gaussian reduces white noise with the standard deviation s to
    s / (2 sqrt(pi) sigma)^(axes/2). Noise is estimated from the median difference between a pixel
    and the mean of its two neighbours, which is small in noise-free maps of networks.

    Parameters
    ----------
    maps : (c, (z,) y, x), read in boxes
    read : converts a part into affinities
    """
    from bmz.process.region_loops import count_differences

    counts = np.zeros(BINS, np.int64)
    for part in _parts(maps, read):
        count_differences(part.reshape(len(part), -1, *part.shape[-2:]), counts)
    # the median of normal noise is 0.67 standard deviations; these differences have 1.22 of them
    noise = _value_at(counts, 0.5, lower=True) / (0.6745 * np.sqrt(1.5))
    axes = len(maps.shape) - 1
    left = NOISE_LEFT / axes
    if noise <= left:
        return 0.0
    sigma = (noise / left) ** (2 / axes) / (2 * np.sqrt(np.pi))
    return float(min(sigma, WIDEST_SIGMA))


def full_affinity(maps: LazyArray, read: Reader, sigma: float) -> float:
    """Return the affinity that a map has where it is certain; 1 if no affinity exceeds `LIKELY`.

    A network may be certain and still never predict more than 0.8. Only affinities above `LIKELY`
    are counted, since background holds no information about it.

    Parameters
    ----------
    maps, read : as in `sigma_against_noise`
    sigma : sigma of the Gaussian that smooths the map
    """
    from bmz.process.region_loops import count_above

    counts = np.zeros(BINS, np.int64)
    for part in _parts(maps, read):
        count_above(smoothed(part, sigma).reshape(-1), np.float32(LIKELY), counts)
    return LIKELY + (1 - LIKELY) * _value_at(counts, RANK_OF_FULL) if counts.any() else 1.0


def _value_at(counts: AnyArray, rank: float, *, lower: bool = False) -> float:
    """Return a quantile from the counts of equal bins between 0 and 1.

    Parameters
    ----------
    counts : (bins,)
    rank : quantile, 0 to 1
    lower : return the lower edge of its bin, not the upper one
    """
    if not counts.any():
        return 0.0
    nth = int(np.searchsorted(np.cumsum(counts), rank * counts.sum()))
    return float((nth + (not lower)) / len(counts))


def _parts(maps: LazyArray, read: Reader) -> Iterator[FloatArray]:
    for box in boxes_of_map(maps):
        yield read(np.asarray(maps[box]))

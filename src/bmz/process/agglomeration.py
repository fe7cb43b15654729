"""Join pixels by their affinities to direct neighbours: fragments, grown, then joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray
from bmz.process.affinity_edges import Edges, Offset, edges_of
from bmz.process.affinity_values import smoothed
from bmz.process.maps import without_small
from bmz.process.relabel import in_raster_order

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Linking:
    """How sure affinities must be; each is a share of `full`.

    Parameters
    ----------
    seed : pixels with all their affinities above this are inside an object
    seed_size : fewer of them that hang together are noise
    growth : fragments take in pixels over affinities above this
    merge : fragments are one object where the median along their border is this or more
    pairs : the least number of pairs of pixels of such a border
    full : the affinity that counts as 1
    sigma : of the Gaussian against noise, entries of the map
    """

    seed: float = 0.9
    seed_size: int = 3
    growth: float = 0.5
    merge: float = 0.7
    pairs: int = 1
    full: float = 1.0
    sigma: float = 0.0


def agglomerated(
    maps: FloatArray, offsets: Sequence[Offset], mask: BoolArray, wanted: Linking
) -> LabelArray:
    """Part pixels by what they have in common with their direct neighbours.

    BiaPy 3.7.1 (``watershed_and_agglomerate_affinities``, after waterz) begins with the places
    where every affinity is high, floods from there over the lowest affinity of each pixel, and
    joins fragments by the median of their border. A pixel at the lower side of an object has an
    affinity that leads out of it; so the flood loses it, or gives it to the neighbour, and takes
    the inside of an object for a border. Here fragments grow pair by pair instead, over the surest
    affinity first.

    Parameters
    ----------
    maps : (c, (z,) y, x), 1 where a pixel and the one at the offset belong together
    offsets : of direct neighbours, one a channel
    mask : ((z,) y, x), pixels that take part
    wanted : thresholds and the width of the smoothing

    Returns
    -------
    ((z,) y, x) int32, 0 background, 1 to n in raster order
    """
    from bmz.process.affinity_loops import grow_fragments

    smooth = smoothed(maps, wanted.sigma) / wanted.full
    seeds, _ = ndimage.label(
        (_least(smooth, offsets) > wanted.seed) & mask, _faces(offsets, mask.ndim)
    )
    seeds = without_small(seeds, wanted.seed_size, (1,) * mask.ndim)
    edges = edges_of(smooth, offsets, mask)
    order, sure = _order(edges, seeds.reshape(-1), wanted.growth)
    roots, made = np.arange(mask.size), np.zeros(mask.size, np.bool_)
    grow_fragments(roots, made, edges.one, edges.other, order, sure)
    fragments = np.unique(roots, return_inverse=True)[1] + int(roots.min(initial=0) >= 0)
    border = edges_of(maps / wanted.full, offsets, mask)
    number = joined(fragments, border, wanted.merge, wanted.pairs)
    return in_raster_order(number[fragments].reshape(mask.shape).astype(np.int32)).labels


def joined(fragments: Indices, edges: Edges, merge: float, pairs: int) -> Indices:
    """Join fragments, again and again, where the median of the affinities between them is high.

    Two that are each other's best are joined at once: the median of a joined border lies between
    those of its parts, so which pair comes first does not matter. Of equal borders the one of the
    lower numbers goes first.

    Parameters
    ----------
    fragments : (pixels,) numbers of fragments, 0 background
    edges : pairs of pixels
    merge, pairs : the least median, and the least number of pairs of pixels

    Returns
    -------
    (1 + the highest number,) the new number of each, 0 for 0
    """
    count = int(fragments.max(initial=0)) + 1
    number = np.arange(count)
    one, other = fragments[edges.one], fragments[edges.other]
    between = np.flatnonzero((one > 0) & (other > 0) & (one != other))
    # sorted once, so that each border is sorted as soon as pairs are brought together
    between = between[np.argsort(edges.together[between], kind="stable")]
    one, other, value = one[between], other[between], edges.together[between]
    while True:
        low, high = _best_borders(number[one], number[other], value, (merge, pairs))
        if len(low) == 0:
            return number
        into = np.arange(count)
        into[high] = low
        number = into[number]
        apart = number[one] != number[other]
        one, other, value = one[apart], other[apart], value[apart]


def _best_borders(
    one: Indices, other: Indices, value: FloatArray, least: tuple[float, int]
) -> tuple[Indices, Indices]:
    """Give the pairs of which each is the other's best, the lower number first."""
    merge, pairs = least
    low, high = np.minimum(one, other), np.maximum(one, other)
    most = int(high.max(initial=0)) + 1
    key = low.astype(np.int64) * most + high
    by_pair = np.argsort(key, kind="stable")
    key = key[by_pair]
    first = np.flatnonzero(np.append(True, key[1:] != key[:-1])) if len(key) else np.zeros(0, int)
    length = np.diff(np.append(first, len(key)))
    median = value[by_pair[first + (length - 1) // 2]] if len(key) else value
    fits = np.flatnonzero((median >= merge) & (length >= pairs))
    # each fragment's best border is the last one written, so the best are written last
    fits = fits[::-1][np.argsort(median[fits][::-1], kind="stable")]
    low, high = key[first[fits]] // most, key[first[fits]] % most
    place, best = np.arange(len(fits)), np.full(most, -1)
    np.maximum.at(best, low, place)
    np.maximum.at(best, high, place)
    mutual = (best[low] == place) & (best[high] == place)
    return low[mutual], high[mutual]


def _least(maps: FloatArray, offsets: Sequence[Offset]) -> FloatArray:
    """Give the lowest affinity of each pixel, without those that lead out of the image."""
    known = maps.copy()
    for values, offset in zip(known, offsets, strict=True):
        for axis, step in enumerate(offset):
            if step:
                end = 0 if step < 0 else values.shape[axis] - 1
                values[(slice(None),) * axis + (end,)] = np.inf
    least: FloatArray = known.min(axis=0)
    return least


def _faces(offsets: Sequence[Offset], axes: int) -> BoolArray:
    """Say which neighbours of a pixel are known: along axes with affinities."""
    known = np.zeros((3,) * axes, np.bool_)
    known[(1,) * axes] = True
    for offset in offsets:
        known[tuple(1 + step for step in offset)] = True
        known[tuple(1 - step for step in offset)] = True
    return known


def _order(edges: Edges, seeds: AnyArray, growth: float) -> tuple[Indices, int]:
    """Give the edges that may join, those within seeds first, and how many those are."""
    inside = (seeds[edges.one] > 0) & (seeds[edges.one] == seeds[edges.other])
    sure = np.flatnonzero(inside)
    likely = np.flatnonzero(~inside & (edges.together > growth))
    falling = likely[np.argsort(-edges.together[likely], kind="stable")]
    return np.concatenate([sure, falling]), len(sure)

"""The label recipe ``gasp``: superpixels, merged by average linkage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, stable_order
from bmz.base.values import dataclass
from bmz.plan.tile_way import TileWay
from bmz.process.affinity_maps import Edges, Offset, edges_of, smoothed
from bmz.process.distance_watershed import depth_of, flooded
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe
from bmz.process.relabel import (
    connected,
    on_input_grid,
    one_map,
    renumbered,
    without_small,
)


@dataclass(frozen=True)
class Borders:
    """Borders between touching regions: one entry per pair of neighbours.

    Parameters
    ----------
    first, second : (pairs,) numbers of the regions, from 0; `first` is below `second`
    total : (pairs,) sum of the values along the border
    count : (pairs,) number of values
    """

    first: Indices
    second: Indices
    total: FloatArray
    count: FloatArray

    @classmethod
    def of(cls, one: AnyArray, other: AnyArray, total: AnyArray, count: AnyArray) -> Borders:
        """Add up the entries of each pair; entries of a region with itself are dropped."""
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
        """Return the borders after a merge, given the new number of each region."""
        return Borders.of(number[self.first], number[self.second], self.total, self.count)


def merged(borders: Borders, regions: int, most: float) -> Indices:
    """Repeatedly merge the two regions with the lowest mean border, while it is below `most`.

    Average linkage on a graph of regions (GASP of Bailoni et al. 2022, doi
    10.1109/CVPR52688.2022.01135, with the sum of all values of a border). The mean border of a
    merged region lies between those of its parts, so pairs that are each other's nearest can be
    merged all at once, with the same result as one by one. Among equal borders, the one of the
    lower region numbers comes first.

    Parameters
    ----------
    borders : borders of all touching pairs
    regions : number of regions
    most : regions are merged if the mean of their border is below this

    Returns
    -------
    (regions,) the new number of each region, from 0
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
    # the highest position wins, so the best borders come last
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
    """Return the borders of labels: the mean of both values at every pixel face between them.

    Parameters
    ----------
    labels : ((z,) y, x), regions 1 to n; background is not a region
    values : same shape
    """
    first, second, means = [], [], []
    for axis in range(labels.ndim):
        low, high = (_shifted(labels, axis, part) for part in (slice(None, -1), slice(1, None)))
        meet = (low != high) & (low > 0) & (high > 0)
        first.append(low[meet] - 1)
        second.append(high[meet] - 1)
        sides = [_shifted(values, axis, part)[meet] for part in (slice(None, -1), slice(1, None))]
        means.append((sides[0].astype(np.float64) + sides[1]) / 2)
    total = np.concatenate(means)
    return Borders.of(np.concatenate(first), np.concatenate(second), total, np.ones(len(total)))


def _shifted(values: AnyArray, axis: int, part: slice) -> AnyArray:
    cut = [slice(None)] * values.ndim
    cut[axis] = part
    return values[tuple(cut)]


@dataclass(frozen=True)
class GaspSettings:
    """Parameters of the recipe."""

    channel: Annotated[int, Knob("channel of the boundary, counted from 0", 0)] = 0
    beta: Annotated[float, Knob("larger values keep more objects apart", 0, 1)] = 0.5
    threshold: Annotated[
        float, Knob("boundary probability of a superpixel", 0, 1, cures=(0.3, 0.7))
    ] = 0.5
    sigma_seeds: Annotated[
        float, Knob("smoothing of the distance, px of the input", 0, grows=1)
    ] = 1.0
    sigma_weights: Annotated[
        float, Knob("smoothing of the boundary, px of the input", 0, grows=1)
    ] = 2.0
    superpixel_size: Annotated[int, Knob("smallest superpixel, px of the input", 0, grows=2)] = 100
    min_size: Annotated[int, Knob("smallest object, px of the input", 0)] = 100


def label_gasp(output: AnyArray, grid: tuple[int, ...], settings: GaspSettings) -> Labelled:
    """Split the image into superpixels along boundaries, and merge those with weak boundaries.

    Superpixels are the watershed of the smoothed boundary from the peaks of the distance to it.
    Two are merged while the mean boundary between them is below 1 - `beta`, the lowest first
    (average linkage). Objects fill the image; pixels of objects that are too small go to their
    neighbours.

    Parameters
    ----------
    output : (c, (z,) y, x), one channel is a boundary probability
    grid : spacing of the map, px of the input; distances and sizes take it into account
    settings : parameters of the recipe

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``, without scores

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    boundary = np.nan_to_num(one_map("gasp", output, settings.channel).astype(np.float32))
    pixels = superpixels(boundary, grid, settings)
    number = merged(touching(pixels, boundary), int(pixels.max()), 1 - settings.beta)
    joined = renumbered(pixels, np.append(0, number + 1))
    labels = renumbered(filled(boundary, joined, settings.min_size, grid))
    return Labelled(on_input_grid(labels, grid))


def superpixels(boundary: FloatArray, grid: tuple[int, ...], settings: GaspSettings) -> LabelArray:
    """Return the distance transform watershed of a boundary map.

    Source: Wolny et al. 2020 (PlantSeg, doi 10.7554/eLife.57613), defaults of PlantSeg 2.

    Parameters
    ----------
    boundary : ((z,) y, x) float32
    grid : spacing of the map, px of the input, one number per axis
    settings : parameters of the recipe, for `threshold`, both sigmas and `superpixel_size`

    Returns
    -------
    ((z,) y, x) int32, 1 to n, without background
    """
    inside = boundary <= settings.threshold
    depth = np.ones(boundary.shape, np.float32) if inside.all() else depth_of(inside, grid)
    peaks = ndimage.smooth_peaks(depth, _steps(settings.sigma_seeds, grid), (3,) * depth.ndim)
    top = peaks & inside
    if not top.any():
        # smoothing can move every peak onto the boundary if hardly any pixel is inside
        top = inside if inside.any() else peaks
    seeds, _ = ndimage.label(top, np.ones((3,) * top.ndim))
    surface = ndimage.smoothed(boundary, _steps(settings.sigma_weights, grid))
    least = settings.superpixel_size / math.prod(grid)
    return renumbered(flooded(surface, seeds, least=least, leave_some=True))


def filled(
    surface: FloatArray, labels: LabelArray, min_size: int, grid: tuple[int, ...]
) -> LabelArray:
    """Flood objects that are too small from their neighbours, unless all are too small."""
    large = without_small(labels, min_size, grid)
    return labels if large is labels or not large.any() else flooded(surface, large)


def _steps(sigma_px: float, grid: tuple[int, ...]) -> list[float]:
    return [sigma_px / step for step in grid]


GASP = Recipe(
    name="gasp",
    what="boundaries of cells that fill the image: superpixels, joined by average linkage",
    source="Bailoni et al. 2022, doi 10.1109/CVPR52688.2022.01135; PlantSeg, Wolny et al. 2020",
    label=label_gasp,
    in_blocks=InBlocks(far_seeing=True),
    tiles=TileWay(
        by_halo="where cut",
        source="PlantSeg 2.0.0rc13, find_patch_and_halo_shapes: as it is where one patch holds it, "
        "else mirror_pad by the halo along the axes that are cut",
    ),
    settings=GaspSettings,
)
"""Label recipe of PlantSeg's boundary maps."""


Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Linking:
    """Thresholds of affinities, all as shares of `full`.

    Parameters
    ----------
    seed : pixels whose affinities all exceed this are inside an object
    seed_size : smallest connected seed, pixels of the map; smaller ones are noise
    growth : fragments grow over affinities above this
    merge : fragments are merged if the median affinity along their border is at least this
    pairs : minimum number of pairs of pixels of such a border
    full : affinity that counts as 1
    sigma : sigma of the Gaussian that suppresses noise, pixels of the map
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
    """Segment pixels by their affinities to direct neighbours.

    BiaPy 3.7.1 (``watershed_and_agglomerate_affinities``, after waterz) starts from regions
    where every affinity is high, floods from there over the lowest affinity of each pixel, and
    merges fragments by the median of their border. A pixel at the lower side of an object has an
    affinity that leads out of the object; so the flood loses it or gives it to the neighbour, and
    mistakes the inside of an object for a border. Here fragments grow pair by pair instead, over
    the highest affinity first.

    Parameters
    ----------
    maps : (c, (z,) y, x), 1 if a pixel and the one at the offset belong together
    offsets : direct neighbours, one per channel
    mask : ((z,) y, x), pixels to segment
    wanted : thresholds, and the sigma of the smoothing

    Returns
    -------
    ((z,) y, x) int32, 0 background, 1 to n in raster order
    """
    from bmz.process.region_loops import grow_fragments, number_fragments

    smooth = smoothed(maps, wanted.sigma) / wanted.full
    seeds = _seeds((_least(smooth, offsets) > wanted.seed) & mask, offsets)
    seeds = without_small(seeds, wanted.seed_size, (1,) * mask.ndim)
    edges = edges_of(smooth, offsets, mask)
    order, sure = _order(edges, seeds.reshape(-1), wanted.growth)
    roots, flags = np.arange(mask.size, dtype=edges.one.dtype), np.zeros(mask.size, np.bool_)
    grow_fragments(roots, flags, edges.one, edges.other, order, sure)
    fragments, room = np.empty(mask.shape, np.int32), np.empty(mask.size, roots.dtype)
    number_fragments(roots, room, fragments.reshape(-1))
    border = edges if wanted.sigma == 0 else edges_of(maps / wanted.full, offsets, mask)
    number = joined(fragments.reshape(-1), border, wanted.merge, wanted.pairs)
    return renumbered(renumbered(fragments, number))


def joined(fragments: LabelArray, edges: Edges, merge: float, pairs: int) -> Indices:
    """Repeatedly merge fragments, while the median affinity between two is at least `merge`.

    Pairs that are each other's best are merged all at once: the median of a merged border lies
    between those of its parts, so the order of the pairs does not matter. Among equal borders,
    the one of the lower numbers comes first.

    Parameters
    ----------
    fragments : (pixels,) numbers of fragments, 0 background
    edges : pairs of pixels
    merge, pairs : minimum median affinity, and minimum number of pairs of pixels

    Returns
    -------
    (1 + the highest number,) the new number of each fragment, 0 for 0
    """
    from bmz.process.region_loops import list_between

    count = int(fragments.max(initial=0)) + 1
    number = np.arange(count)
    between = np.empty(len(edges.one), np.intp)
    between = between[: list_between(edges.one, edges.other, fragments, between)]
    # sorted once, so that each border is sorted as soon as its pairs are grouped
    between = between[stable_order(edges.together[between])]
    one, other = fragments[edges.one[between]], fragments[edges.other[between]]
    value = edges.together[between]
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
    """Return the pairs of fragments that are each other's best, the lower number first."""
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
    # the highest position wins, so the best borders come last
    fits = fits[::-1][np.argsort(median[fits][::-1], kind="stable")]
    low, high = key[first[fits]] // most, key[first[fits]] % most
    place, best = np.arange(len(fits)), np.full(most, -1)
    np.maximum.at(best, low, place)
    np.maximum.at(best, high, place)
    mutual = (best[low] == place) & (best[high] == place)
    return low[mutual], high[mutual]


def _least(maps: FloatArray, offsets: Sequence[Offset]) -> FloatArray:
    """Return the lowest affinity of each pixel, ignoring those that lead out of the image."""
    known = maps.copy()
    for values, offset in zip(known, offsets, strict=True):
        for axis, step in enumerate(offset):
            if step:
                end = 0 if step < 0 else values.shape[axis] - 1
                values[(slice(None),) * axis + (end,)] = np.inf
    least: FloatArray = known.min(axis=0)
    return least


def _seeds(inside: BoolArray, offsets: Sequence[Offset]) -> LabelArray:
    """Label pixels that are connected along axes with affinities, in raster order."""
    axes = {axis for offset in offsets for axis, step in enumerate(offset) if step}
    if len(axes) == inside.ndim:
        return connected(inside)[0]
    known = ndimage.generate_binary_structure(inside.ndim, 1)
    for axis in set(range(inside.ndim)) - axes:
        known[(slice(None),) * axis + ([0, 2],)] = False
    seeds: LabelArray = ndimage.label(inside, known)[0]
    return seeds


def _order(edges: Edges, seeds: AnyArray, growth: float) -> tuple[Indices, int]:
    """Return the edges that may merge pixels, those within seeds first, and the number of these."""
    from bmz.process.region_loops import sort_out

    order = np.empty(len(edges.one), np.intp)
    within, above = sort_out(
        edges.one, edges.other, edges.together, seeds, np.float32(growth), order
    )
    likely = order[above:][::-1]
    falling = likely[stable_order(-edges.together[likely])]
    return np.concatenate([order[:within], falling]), within

"""Label a map block by block, with the objects and parameters of the whole map."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, LazyArray
from bmz.base.axes import Box, boxes
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.base.values import dataclass
from bmz.process.object_columns import Columns, numbered, rows_of, shared_by_all
from bmz.process.recipe import Finish, InBlocks, Labelled, Place, Recipe, Value
from bmz.process.relabel import finish_labels

BINS = 256
"""Number of bins of the histogram of Otsu's method, the default of scikit-image."""

SIDE_AT_ONCE = 1024
"""Side length of the boxes that are read, px; strips of a wide map would be too large."""


def whole_map_parameters(
    recipe: Recipe,
    maps: LazyArray,
    parameters: Mapping[str, Value],
) -> dict[str, Value]:
    """Replace every parameter that a recipe computes from the map by its value for the whole map.

    Parameters
    ----------
    recipe : label recipe
    maps : (c, (z,) y, x), read in boxes
    parameters : all parameters of the recipe

    Returns
    -------
    dict
        `parameters` with computed values instead of -1; unchanged if the recipe computes none

    Raises
    ------
    ChannelsDiffer
        The map does not have the channels that the parameters name.
    """
    values = {} if recipe.of_whole_map is None else recipe.of_whole_map(maps, parameters)
    return {**parameters, **values}


def streamed_otsu(maps: LazyArray, channel: int) -> float:
    """Compute Otsu's threshold as ``skimage.filters.threshold_otsu`` does, in two passes.

    Parameters
    ----------
    maps : (c, (z,) y, x)
    channel : index of the map
    """
    from skimage.filters import threshold_otsu  # here: it takes long to import

    low, high = np.inf, -np.inf
    for values in _parts(maps, channel):
        low, high = min(low, values.min(initial=low)), max(high, values.max(initial=high))
    if not low < high:
        return float(low)  # the only value, or infinity if there is none
    counts = np.zeros(BINS, np.int64)
    edges = np.linspace(low, high, BINS + 1)
    for values in _parts(maps, channel):
        counts += np.histogram(values, BINS, (low, high))[0]
    return float(threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2)))


def _parts(maps: LazyArray, channel: int) -> Iterator[FloatArray]:
    for _, *box in boxes_of_map(maps):
        part = np.asarray(maps[(slice(channel, channel + 1), *box)])
        yield part[np.isfinite(part)]


def boxes_of_map(maps: LazyArray) -> Iterator[Box]:
    """Return the boxes in which a map (c, (z,) y, x) is read; only y and x are divided."""
    return boxes(maps.shape, (*maps.shape[:-2], SIDE_AT_ONCE, SIDE_AT_ONCE))


OTSU = -1.0
"""Threshold value that selects Otsu's method."""


def threshold_of(values: AnyArray, asked: float) -> float:
    """Return `asked`, or the threshold by Otsu's method if `asked` is `OTSU`.

    Source: Otsu 1979 (doi 10.1109/TSMC.1979.4310076), ``skimage.filters.threshold_otsu``.

    Parameters
    ----------
    values : map of any shape; values that are not finite are ignored
    asked : in the unit of the map, or `OTSU`
    """
    from skimage.filters import threshold_otsu  # here: it takes long to import

    if asked != OTSU:
        return asked
    finite = np.isfinite(values)
    known = values.reshape(-1) if finite.all() else values[finite]
    return float(threshold_otsu(known)) if known.size else np.inf


GROWTH = 2
"""Factor by which the overlap grows when an object does not fit into it."""


class WritableArray(LazyArray, Protocol):
    """An array whose regions are read and written, such as one of NumPy or Zarr."""

    def __setitem__(self, region: Box, values: AnyArray, /) -> None:
        """Write a region, one slice per axis."""


@dataclass(frozen=True)
class BlockWork:
    """Input of the labelling of all blocks.

    Parameters
    ----------
    maps : (c, (z,) y, x)
    grid : spacing of the maps, px of the input, one number per spatial axis
    recipe, parameters : label recipe and all its parameters
    side : side length of a block along y and x, pixels of the map
    overlap : initial overlap around a block, pixels of the map
    finish : applied to the labels of each block; objects at the border of the image cannot be
        removed by block
    """

    maps: LazyArray
    grid: tuple[int, ...]
    recipe: Recipe
    parameters: Mapping[str, Value]
    side: int
    overlap: int
    finish: Finish = field(default_factory=Finish)

    @property
    def needs(self) -> InBlocks:
        """Requirements of the recipe for blocks.

        Raises
        ------
        ValueError
            The recipe labels only whole maps.
        """
        if self.recipe.in_blocks is None:
            raise ValueError(f"recipe '{self.recipe.name}' labels only whole maps")
        return self.recipe.in_blocks

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels, px of the input."""
        return tuple(n * step for n, step in zip(self.maps.shape[1:], self.grid, strict=True))


@dataclass
class Found:
    """Objects found so far, in the order in which they were found.

    Parameters
    ----------
    first : flat positions of the first pixels of objects in the whole mask, one array per block
    columns : properties of the objects, one table per block
    widest_overlap : largest overlap that a block needed, pixels of the map
    """

    first: list[NDArray[np.int64]] = field(default_factory=list)
    columns: list[Columns] = field(default_factory=list)
    widest_overlap: int = 0

    @property
    def count(self) -> int:
        """Number of objects."""
        return sum(map(len, self.first))

    def numbers(self) -> NDArray[np.int64]:
        """Return the number of each object in raster order, preceded by 0 for the background."""
        ranks = np.zeros(self.count + 1, np.int64)
        first = np.concatenate([np.zeros(0, np.int64), *self.first])
        ranks[1 + np.argsort(first, kind="stable")] = np.arange(1, len(first) + 1)
        return ranks

    def first_by(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the flat position of each object's first pixel; label k is at index k - 1.

        Parameters
        ----------
        numbers : new label of each object, preceded by 0; see `Found.numbers`
        """
        first = np.concatenate([np.zeros(0, np.int64), *self.first])
        ordered = np.zeros(int(numbers.max(initial=0)), np.int64)
        ordered[numbers[1:][numbers[1:] > 0] - 1] = first[numbers[1:] > 0]
        return ordered

    @property
    def headings(self) -> list[str]:
        """Headings of the columns that all objects have."""
        return shared_by_all(self.columns)

    def columns_by(
        self, numbers: NDArray[np.int64], headings: Collection[str] | None = None
    ) -> Columns:
        """Return the columns of the objects; label k is at index k - 1.

        Parameters
        ----------
        numbers : as in `first_by`
        headings : columns to return, because outlines of many objects take much memory; None for
            all
        """
        ordered: dict[str, AnyArray] = {}
        for heading in self.headings:
            if headings is None or heading in headings:
                column = np.concatenate([part[heading] for part in self.columns])
                ordered |= numbered({heading: column}, numbers)
        return ordered


def label_blocks(
    work: BlockWork,
    labels: WritableArray,
    listener: Listener = nobody,
    before: Found | None = None,
    keep: Callable[[Found], None] = lambda _: None,
) -> Found:
    """Label all blocks and write each object once, by the block in which it begins.

    Each block is labelled together with an overlap around it. It owns the objects whose first
    pixel in raster order is inside the block, and writes them whole. If one of these, or an object
    that it touches, reaches the end of the overlap, its shape is uncertain, and the block is
    labelled again with twice the overlap, up to the whole map. Parameters that a recipe computes
    from the map are computed from the whole map first.

    Parameters
    ----------
    work : maps, recipe and sizes
    labels : of shape ``work.shape``, all 0; receives the numbers of the objects, from 1 in the
        order in which they are found. `Found.numbers` returns those in raster order
    listener : notified of every block, and when the overlap has to grow
    before : objects of the first blocks from an interrupted call with the same `labels`; only the
        remaining blocks are labelled
    keep : called with all objects so far after the labels of each block have been written

    Returns
    -------
    Found
        the objects, identical to those of the whole map if the recipe depends on nothing beyond
        the overlap
    """
    parameters = whole_map_parameters(work.recipe, work.maps, work.parameters)
    least = work.needs.least_overlap(work.maps, parameters, work.grid)
    known = replace(work, parameters=parameters, overlap=max(work.overlap, least))
    cores = list(_cores(known.maps.shape[1:], known.side))
    objects = before or Found()
    for core in cores[len(objects.first) :]:
        _label_one(known, core, labels, objects, listener)
        keep(objects)
        listener(Progress("blocks", len(objects.first), len(cores)))
    return objects


def _label_one(
    work: BlockWork, core: Box, labels: WritableArray, objects: Found, listener: Listener
) -> None:
    overlap = work.overlap
    while True:
        region = _widened(core, overlap, work.maps.shape[1:])
        done, lost = _labelled(work, region)
        if _is_sure(work, core, region, done.labels, lost):
            break
        overlap *= GROWTH
        listener(
            Note(f"an object is larger than the overlap of blocks; continuing with {overlap} px")
        )
    objects.widest_overlap = max(objects.widest_overlap, overlap)
    # only now, because a part of a cut object may be too small
    if work.finish != Finish():
        done = finish_labels(done, work.finish)
    place = _on_input(region, work.grid)
    owned, first = _owned(done.labels, _on_input(core, work.grid), place, work)
    _write(done.labels, owned, labels, place, objects.count)
    objects.first.append(first[owned])
    objects.columns.append(rows_of(done.columns, owned[1:]))


def _labelled(work: BlockWork, region: Box) -> tuple[Labelled, BoolArray]:
    maps = np.asarray(work.maps[(slice(None), *region)])
    parameters = dict(work.parameters)
    # these parameters are fractions of the whole map, not of this block
    whole = float(np.prod(work.maps.shape[1:])) / max(float(np.prod(maps.shape[1:])), 1)
    for name in work.needs.shares:
        parameters[name] = min(float(parameters[name]) * whole, 1.0)
    origin = tuple(side.start for side in region)
    placed = {"place": Place(origin, work.maps.shape[1:])} if work.recipe.placed else {}
    done = work.recipe.apply(maps, work.grid, parameters, **placed)
    on_map = done.labels[tuple(slice(None, None, step) for step in work.grid)]
    return done, work.needs.unlabelled(maps, on_map, parameters)


def _is_sure(work: BlockWork, core: Box, region: Box, local: LabelArray, lost: BoolArray) -> bool:
    """Return whether a block contains all objects that begin in it, and those they touch."""
    shape = work.maps.shape[1:]
    owned, _ = _owned(local, _on_input(core, work.grid), _on_input(region, work.grid), work)
    reach = work.needs.reach(work.maps, work.parameters, work.grid)
    cut = _touches_cut(local, region, shape, [max(reach, 1) * step for step in work.grid])
    # where two objects meet depends on both
    if cut[owned | _beside(local, owned)].any():
        return False
    return not _cut_in(lost, _within(core, region), region, shape)


def _owned(
    local: LabelArray, core: Box, region: Box, work: BlockWork
) -> tuple[BoolArray, NDArray[np.int64]]:
    """Return whether 0 and each label begins in the core, and its position in the whole mask."""
    count = int(local.max(initial=0))
    flat = local.reshape(-1)
    begins = np.flatnonzero(flat > 0)
    first = np.zeros(count + 1, np.int64)
    first[flat[begins[::-1]]] = begins[::-1]  # reversed, so that the first pixel is written last
    place = np.unravel_index(first, local.shape)
    whole = [at + side.start for at, side in zip(place, region, strict=True)]
    inside = np.ones(count + 1, np.bool_)
    for at, side in zip(whole, core, strict=True):
        inside &= (at >= side.start) & (at < side.stop)
    inside[0] = False
    return inside, np.ravel_multi_index(tuple(whole), work.shape).astype(np.int64)


def _beside(local: LabelArray, owned: BoolArray) -> BoolArray:
    # labels that share a face with an owned one
    beside = np.zeros(len(owned), np.bool_)
    mine = owned[local]
    for axis in range(local.ndim):
        ahead = (slice(None),) * axis + (slice(1, None),)
        behind = (slice(None),) * axis + (slice(None, -1),)
        for near, other in ((ahead, behind), (behind, ahead)):
            beside[np.unique(local[other][mine[near]])] = True
    beside[0] = False
    return beside


def _touches_cut(
    local: LabelArray, region: Box, shape: Sequence[int], depth: Sequence[int]
) -> BoolArray:
    # an object may continue beyond an end of the overlap that is not an edge of the map
    touches = np.zeros(int(local.max(initial=0)) + 1, np.bool_)
    for axis, (side, size, deep) in enumerate(zip(region, shape, depth, strict=True)):
        before = (slice(None),) * axis
        ends = [slice(deep)] if side.start > 0 else []
        ends += [slice(-deep, None)] if side.stop < size else []
        for end in ends:
            touches[np.unique(local[(*before, end)])] = True
    return touches


def _cut_in(lost: BoolArray, core: Box, region: Box, shape: Sequence[int]) -> bool:
    """Return whether unlabelled foreground reaches from the core to an end of the overlap."""
    if not lost[core].any():
        return False
    parts, _ = ndimage.label(lost)
    at_end = _touches_cut(parts, region, shape, (1,) * parts.ndim)
    at_end[0] = False
    return bool(at_end[np.unique(parts[core])].any())


def _within(core: Box, region: Box) -> Box:
    return tuple(
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(core, region, strict=True)
    )


def _write(
    local: LabelArray, owned: BoolArray, labels: WritableArray, place: Box, before: int
) -> None:
    if not owned.any():
        return
    number = np.zeros(len(owned), np.int64)
    number[owned] = before + np.arange(1, np.count_nonzero(owned) + 1)
    there = np.asarray(labels[place])
    mine = owned[local] & (there == 0)
    there = np.where(mine, number[local], there).astype(there.dtype, copy=False)
    labels[place] = there


def _cores(shape: Sequence[int], side: int) -> Iterator[Box]:
    # stacks are divided along y and x only
    return boxes(shape, (*(max(n, 1) for n in shape[:-2]), side, side))


def _widened(core: Box, overlap: int, shape: Sequence[int]) -> Box:
    return tuple(
        slice(max(side.start - overlap, 0), min(side.stop + overlap, n))
        for side, n in zip(core, shape, strict=True)
    )


def _on_input(region: Box, grid: Sequence[int]) -> Box:
    return tuple(slice(s.start * g, s.stop * g) for s, g in zip(region, grid, strict=True))

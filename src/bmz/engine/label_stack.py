"""Combine, join and resample the labels of an image, in memory or on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LazyArray
from bmz.base.axes import Box, Link, boxes
from bmz.base.values import dataclass
from bmz.plan.plan import Blocks
from bmz.process.adapt import resized_labels_part
from bmz.process.blocks import Found
from bmz.process.linking import link_labels, measured_together
from bmz.process.object_columns import (
    NO_COLUMNS,
    Columns,
    below,
    joined_columns,
    rows_of,
)
from bmz.process.relabel import closed_up, numbers_present

Core = slice
"""Extent of a block along one axis, px."""

UNSEEN = np.iinfo(np.int64).max
"""Position of the first pixel of an object that does not occur."""


@dataclass(frozen=True)
class Labels:
    """Labels of one plane or stack, with what is known about their objects.

    Parameters
    ----------
    stored : ((z,) y, x) object numbers as found
    numbers : label of each found number, in raster order; 0 for objects that are left out
    objects : the objects found
    size : size of the image: (planes,) height and width, px
    block, overlap : size and overlap of the blocks in which labels were made, px along y and x; an
        object lies within the block in which it begins, extended by the overlap
    confidences : (n,) confidence of label k at k - 1; None if unknown
    """

    stored: LazyArray
    numbers: AnyArray
    objects: Found
    size: tuple[int, ...]
    block: tuple[int, int]
    overlap: tuple[int, int]
    confidences: FloatArray | None = None

    @classmethod
    def held(cls, labels: AnyArray, columns: Columns = NO_COLUMNS) -> Labels:
        """Return labels held in memory, as made in one block.

        Parameters
        ----------
        labels : ((z,) y, x) numbers of objects or classes
        columns : (n,) each, values of label k at k - 1
        """
        there = numbers_present(labels)
        there[0] = False
        numbers = np.where(there, np.arange(len(there)), 0)
        # all begin in the only block, so their exact positions do not matter
        objects = Found([np.zeros(len(numbers) - 1, np.int64)], [columns])
        high, wide = labels.shape[-2:]
        return cls(labels, numbers, objects, labels.shape, (high, wide), (0, 0))

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis, as for an array."""
        return self.size

    @property
    def count(self) -> int:
        """Number of objects that are kept."""
        return int(self.numbers.max(initial=0))

    def __getitem__(self, box: Box) -> AnyArray:
        """Return the labels of a region, given one slice per axis."""
        sides = tuple(slice(*side.indices(n)) for side, n in zip(box, self.size, strict=True))
        stored = np.asarray(self.stored[sides])
        part: AnyArray = stored if self._as_stored else self.numbers[stored]
        return part

    @cached_property
    def _as_stored(self) -> bool:
        """Whether the stored numbers are the labels, in a dtype large enough for many planes."""
        held = isinstance(self.stored, np.ndarray) and self.stored.dtype in (np.int32, np.int64)
        return held and np.array_equal(self.numbers, np.arange(len(self.numbers)))

    def cores(self, rows: slice) -> Iterator[tuple[Core, Core, BoolArray]]:
        """Iterate over the blocks of some rows, with the objects that begin in each.

        Yields
        ------
        slice, slice, (n + 1,) bool
            extent of the block along y and x, and which labels begin in it
        """
        first = self.objects.first_by(self.numbers)
        places = np.unravel_index(first, self.stored.shape)[-2:]
        # a coarse map extends beyond the image, and an object may begin there
        begins = [np.minimum(place, n - 1) for place, n in zip(places, self.size[-2:], strict=True)]
        high, wide = self.block
        for top in range(rows.start, rows.stop, high):
            for left in range(0, self.size[-1], wide):
                y = slice(top, min(top + high, rows.stop))
                x = slice(left, min(left + wide, self.size[-1]))
                own = np.ones(len(first), np.bool_)
                for begin, side in zip(begins, (y, x), strict=True):
                    own &= (begin >= side.start) & (begin < side.stop)
                yield y, x, np.append(False, own)

    def window(self, core: tuple[Core, Core], margin: int = 0) -> tuple[Core, Core]:
        """Return the y and x extent of the objects that begin in a block, plus a margin."""
        y, x = (
            slice(max(side.start - more - margin, 0), min(side.stop + more + margin, n))
            for side, more, n in zip(core, self.overlap, self.size[-2:], strict=True)
        )
        return y, x


@dataclass(frozen=True)
class LabelStack:
    """The labels of all planes or stacks of an image, numbered consecutively.

    Parameters
    ----------
    parts : one for each position along the axes of `loop`, the last axis varying fastest
    loop : number of positions along t and z, if the model runs once per position
    space : axes of each part, ``yx`` or ``zyx``
    renumbered : per part, the number of its label k in the whole image, at k, if labels of several
        parts are joined; None if they are numbered consecutively
    """

    parts: Sequence[Labels]
    loop: Mapping[str, int]
    space: str
    renumbered: Sequence[AnyArray] | None = None

    @property
    def axes(self) -> str:
        """One letter per axis of the whole image."""
        return "".join(self.loop) + self.space

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the whole image along each axis."""
        return (*self.loop.values(), *self.parts[0].size)

    @property
    def count(self) -> int:
        """Number of objects."""
        if self.renumbered is not None:
            return max(int(numbers.max(initial=0)) for numbers in self.renumbered)
        return self.starts[-1]

    @cached_property
    def starts(self) -> list[int]:
        """Number of objects before each part, followed by the total."""
        return [0, *accumulate(part.count for part in self.parts)]

    def positions(self) -> list[dict[str, int]]:
        """Return the position of each part along the axes of the loop."""
        places = np.ndindex(*self.loop.values())
        return [dict(zip(self.loop, place, strict=True)) for place in places]

    def __getitem__(self, box: Box) -> AnyArray:
        """Return the labels of a region, given one slice per axis."""
        ranges = [range(*s.indices(n)) for s, n in zip(box, self.loop.values(), strict=False)]
        inner = box[len(ranges) :]
        part_numbers = np.zeros([len(some) for some in ranges], np.int64)
        for place in np.ndindex(part_numbers.shape):
            at = [some[i] for some, i in zip(ranges, place, strict=True)]
            part_numbers[place] = np.ravel_multi_index(at, list(self.loop.values())) if at else 0
        regions = [self._numbered(int(number), inner) for number in part_numbers.reshape(-1)]
        return np.stack(regions).reshape(*part_numbers.shape, *regions[0].shape)

    def _numbered(self, number: int, box: Box) -> AnyArray:
        return self.in_whole(number, self.parts[number][box])

    def in_whole(self, number: int, labels: AnyArray) -> AnyArray:
        """Convert labels of the part with this number to those of the whole image."""
        if self.renumbered is not None:
            whole: AnyArray = self.renumbered[number][labels]
            return whole
        start = self.starts[number]
        return labels if start == 0 else np.where(labels > 0, labels + start, 0)

    def fullest_plane(self) -> dict[str, int]:
        """Return the position along t and z of the plane with most objects, the first in a tie."""
        counts = [self._counts(part) for part in self.parts]
        number, z = np.unravel_index(int(np.argmax(counts)), (len(counts), len(counts[0])))
        own = {"z": int(z)} if "z" in self.space else {}
        return self.positions()[int(number)] | own

    def planes(self) -> Iterator[dict[str, int]]:
        """Iterate over the positions of the planes along t and z, the last axis varying fastest."""
        loop = dict(zip(self.axes, self.shape[:-2], strict=False))
        for place in np.ndindex(*loop.values()):
            yield dict(zip(loop, map(int, place), strict=True))

    def _counts(self, part: Labels) -> list[int]:
        if "z" not in self.space:
            return [int(np.count_nonzero(part.numbers))]  # some classes may be missing
        planes = []
        for z in range(part.size[0]):
            there = np.zeros(part.count + 1, np.bool_)
            for box in boxes(part.size[1:], part.block):
                there[np.unique(part[slice(z, z + 1), *box])] = True
            planes.append(int(np.count_nonzero(there[1:])))
        return planes


def without_border(stored: LazyArray, numbers: AnyArray, size: Sequence[int]) -> AnyArray:
    """Remove objects that touch the edge of the image along y or x from the numbering."""
    *planes, height, width = size
    before = tuple(slice(0, n) for n in planes)
    edges = (
        np.s_[0:1, 0:width],
        np.s_[height - 1 : height, 0:width],
        np.s_[0:height, 0:1],
        np.s_[0:height, width - 1 : width],
    )
    border = [np.asarray(stored[(*before, *edge)]).ravel() for edge in edges]
    inside = numbers.copy()
    inside[np.unique(np.concatenate(border))] = 0
    return closed_up(inside)[0]


def in_image(stored: LazyArray, count: int, size: Sequence[int], side: int) -> AnyArray:
    """Label objects in raster order of their pixels inside the image.

    A coarse map extends beyond the image, where an object may begin or lie entirely.

    Parameters
    ----------
    stored : ((z,) y, x) object numbers as found
    count : number of these objects
    size : size of the image, px
    side : side length of the blocks in which they are read, px

    Returns
    -------
    (count + 1,) int64
        label of each object; 0 for objects outside the image
    """
    first = np.full(count + 1, UNSEEN)
    for box in boxes(size, (*(1 for _ in size[:-2]), side, side)):
        part = np.asarray(stored[box])
        numbers, begins = np.unique(part, return_index=True)
        places = np.unravel_index(begins, part.shape)
        moved = tuple(place + side.start for place, side in zip(places, box, strict=True))
        flat = np.ravel_multi_index(moved, tuple(size))
        first[numbers] = np.minimum(first[numbers], flat)
    first[0] = UNSEEN
    ranks = np.zeros(count + 1, np.int64)
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < UNSEEN)]
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


Integers = NDArray[np.int64]


@dataclass(frozen=True)
class JoinedLabels:
    """Joined labels, in the form in which they are written and measured.

    Parameters
    ----------
    labels : labels numbered over the whole image; joined planes of a stack form one part
    planes : the same labels, plane by plane; None if planes were not joined
    """

    labels: LabelStack
    planes: LabelStack | None = None


def joined(
    labels: LabelStack, link: Link, blocks: Blocks, numbers: Sequence[Integers] | None = None
) -> JoinedLabels:
    """Join the labels of all planes or stacks of an image, as `bmz.process.linking` does.

    Parameters
    ----------
    labels : labels of an image, each plane or stack numbered separately
    link : the axes of its loop to join along, and how
    blocks : blocks in which the labels are scanned, and measured later
    numbers : per part, the number of label k in the whole image, at k; None to compute them
    """
    if numbers is None:
        numbers = link_labels(labels.parts, labels.loop, link)
    renumbered = replace(labels, renumbered=numbers)
    if "z" not in link.ious:
        return JoinedLabels(renumbered)
    groups = measured_together(labels.loop, "t")
    columns = joined_columns([_known(part) for part in labels.parts], numbers, groups)
    frames = [
        _frame(labels, numbers, group, known, blocks)
        for group, known in zip(groups, columns, strict=True)
    ]
    loop = {axis: size for axis, size in labels.loop.items() if axis != "z"}
    parts, names = zip(*frames, strict=True)
    return JoinedLabels(LabelStack(parts, loop, f"z{labels.space}", names), renumbered)


_CONFIDENCE = "confidence"


def _known(part: Labels) -> Columns:
    known = part.objects.columns_by(part.numbers)
    return known if part.confidences is None else {**known, _CONFIDENCE: part.confidences}


def _frame(
    labels: LabelStack,
    numbers: Sequence[Integers],
    group: Sequence[int],
    columns: Columns,
    blocks: Blocks,
) -> tuple[Labels, Integers]:
    """Return the planes of one frame as a stack, and the number of each of its labels.

    Parameters
    ----------
    columns : values of the joined objects, by number
    """
    planes = [labels.parts[member] for member in group]
    names = np.unique(np.concatenate([np.zeros(1, np.int64), *(numbers[m] for m in group)]))
    own = [np.searchsorted(names, numbers[member]) for member in group]
    stored = _Planes(planes, own)
    extents = Extents(len(names) - 1, stored.shape)
    for box in boxes(stored.shape, (1, blocks.side_px, blocks.side_px)):
        extents.look(stored[box], box)
    own_columns = rows_of(columns, names[1:] - 1)
    confidences = own_columns.pop(_CONFIDENCE, None)
    objects = Found([extents.first[1:]], [own_columns])
    side = blocks.side_for(len(planes))
    everyone = np.arange(len(names))
    shape, longest = stored.shape, extents.longest()
    frame = Labels(stored, everyone, objects, shape, (side, side), longest, confidences)
    return frame, names


@dataclass(frozen=True)
class _Planes:
    """Planes as a stack, with the numbers of their labels in it."""

    planes: Sequence[Labels]
    numbers: Sequence[Integers]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.planes), *self.planes[0].size)

    def __getitem__(self, box: Box) -> AnyArray:
        positions = range(*box[0].indices(len(self.planes)))
        return np.stack([self.numbers[z][self.planes[z][box[1:]]] for z in positions])


def on_image(
    stored: LazyArray,
    objects: Found,
    network: Sequence[int],
    size: Sequence[int],
    folder: Path,
    blocks: Blocks,
) -> Labels:
    """Resample labels to the image as `bmz.process.adapt.resize_labels` does, and renumber them.

    Objects too small to contain the centre of any pixel of the image are left out.

    Parameters
    ----------
    stored : ((z,) y, x) object numbers as found, on the grid of the network
    objects : these objects
    network, size : sizes of the resized image and of the image, px
    folder : scratch folder for the labels on the grid of the image
    blocks : blocks in which they are resampled
    """
    side = blocks.side_for(prod(size[:-2]))
    from bmz.write.ome_zarr import scratch_array  # here: a check writes nothing

    resized = scratch_array(folder, size, np.dtype(np.uint32))
    extents = Extents(objects.count, size)
    for box in boxes(size, (*size[:-2], side, side)):
        part = resized_labels_part(lambda where: np.asarray(stored[where]), network, size, box)
        resized[box] = part
        extents.look(part, box)
    there = Found([extents.first[1:]], [below(objects.columns)])
    numbers, _ = closed_up(np.where(extents.first < UNSEEN, there.numbers(), 0))
    return Labels(resized, numbers, there, tuple(size), (side, side), extents.longest())


class Extents:
    """First pixel and bounding box of each object.

    Parameters
    ----------
    count : number of objects
    size : size of the image, px
    """

    def __init__(self, count: int, size: Sequence[int]) -> None:
        self._size = tuple(size)
        self.first = np.full(count + 1, UNSEEN)
        """Flat position of the first pixel of each object."""
        self._low = np.full((count + 1, len(size)), UNSEEN)
        self._high = np.zeros((count + 1, len(size)), np.int64)

    def look(self, part: AnyArray, box: Box) -> None:
        """Update the extents with the objects of one region."""
        starts = np.array([side.start for side in box])
        numbers, begins, inverse = np.unique(part, return_index=True, return_inverse=True)
        place = np.stack(np.unravel_index(begins, part.shape)) + starts[:, None]
        flat = np.ravel_multi_index(tuple(place), self._size)
        self.first[numbers] = np.minimum(self.first[numbers], flat)
        self.first[0] = UNSEEN
        for number, where in zip(
            numbers, ndimage.find_objects(inverse.reshape(part.shape) + 1), strict=True
        ):
            low, high = ([getattr(s, end) for s in where] for end in ("start", "stop"))
            self._low[number] = np.minimum(self._low[number], low + starts)
            self._high[number] = np.maximum(self._high[number], high + starts)

    def there(self) -> Integers:
        """Return the numbers of the objects that occur, in ascending order."""
        return np.flatnonzero(self.first < UNSEEN)

    def box(self, number: int) -> Box | None:
        """Return the bounding box of an object; None if it does not occur."""
        if self.first[number] == UNSEEN:
            return None
        ends = zip(self._low[number], self._high[number], strict=True)
        return tuple(slice(int(low), int(high)) for low, high in ends)

    def longest(self) -> tuple[int, int]:
        """Return the height of the tallest object and the width of the widest, px."""
        there = self.first < UNSEEN
        if not there.any():
            return 0, 0
        high, wide = (self._high[there] - self._low[there]).max(axis=0)[-2:]
        return int(high), int(wide)

"""Labels of an image, in memory or on the disk: put together from planes or stacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.boxes import Box, boxes
from bmz.image.pixels import Pixels
from bmz.image.region import ImageSource
from bmz.process.blocks import Found
from bmz.process.relabel import closed_up

OVERVIEW_PX = 2048
"""Longer side of the picture, at most."""


@dataclass(frozen=True)
class Labels:
    """Labels of one plane or stack, and what is known of them.

    Parameters
    ----------
    stored : ((z,) y, x) numbers of the objects as they were found
    numbers : the label of each of them, in raster order; 0 for one that is left out
    found : the objects
    size : of the image: (planes,) height and width, px
    block, overlap : of the blocks in which labels were made, px along y and x; an object lies
        within the block in which it begins and the widest overlap
    """

    stored: Any
    numbers: AnyArray
    found: Found
    size: tuple[int, ...]
    block: tuple[int, int]
    overlap: tuple[int, int]

    @classmethod
    def held(cls, labels: AnyArray, scores: FloatArray | None) -> Labels:
        """Give labels in memory, which were made in one block.

        Parameters
        ----------
        labels : ((z,) y, x) numbers of the objects, or of classes
        scores : (n,) that of label k at k - 1; None where there are none
        """
        there = np.zeros(int(labels.max(initial=0)) + 1, np.bool_)
        there[labels.reshape(-1)] = True
        there[0] = False
        numbers = np.where(there, np.arange(len(there)), 0)
        # all begin in the one block that there is, wherever that may be
        found = Found([np.zeros(len(numbers) - 1, np.int64)], [] if scores is None else [scores])
        high, wide = labels.shape[-2:]
        return cls(labels, numbers, found, labels.shape, (high, wide), (0, 0))

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes, as of an array."""
        return self.size

    @property
    def count(self) -> int:
        """How many objects are left."""
        return int(self.numbers.max(initial=0))

    def __getitem__(self, box: Box) -> AnyArray:
        """Give the labels of a part: one slice an axis."""
        sides = tuple(slice(*side.indices(n)) for side, n in zip(box, self.size, strict=True))
        part: AnyArray = self.numbers[np.asarray(self.stored[sides])]
        return part


@dataclass(frozen=True)
class LabelStack:
    """The labels of all planes or stacks of an image, numbered on from one to the next.

    Parameters
    ----------
    parts : one for each position along the axes of `loop`, the last one the fastest
    loop : number of positions along t and z, where the model is run once for each
    space : axes of each part, ``yx`` or ``zyx``
    renumbered : for each part the number that its label k has in the whole, at k, where labels of
        several parts are joined; None where they are numbered on
    """

    parts: Sequence[Labels]
    loop: Mapping[str, int]
    space: str
    renumbered: Sequence[AnyArray] | None = None

    @property
    def axes(self) -> str:
        """One letter an axis of the whole."""
        return "".join(self.loop) + self.space

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the whole."""
        return (*self.loop.values(), *self.parts[0].size)

    @property
    def count(self) -> int:
        """How many objects there are."""
        if self.renumbered is not None:
            return max(int(numbers.max(initial=0)) for numbers in self.renumbered)
        return self.starts[-1]

    @cached_property
    def starts(self) -> list[int]:
        """How many objects lie in the parts before each, and in all of them."""
        return [0, *accumulate(part.count for part in self.parts)]

    def positions(self) -> list[dict[str, int]]:
        """Give the position along the axes of the loop of each part."""
        places = np.ndindex(*self.loop.values())
        return [dict(zip(self.loop, place, strict=True)) for place in places]

    def __getitem__(self, box: tuple[Any, ...]) -> AnyArray:
        """Give the labels of a part: one slice an axis; a leading ellipsis stands for the rest."""
        if box[0] is Ellipsis:
            box = (*(slice(None) for _ in range(len(self.shape) - len(box) + 1)), *box[1:])
        ranges = [range(*s.indices(n)) for s, n in zip(box, self.loop.values(), strict=False)]
        inner = box[len(ranges) :]
        wanted = np.zeros([len(some) for some in ranges], np.int64)
        for place in np.ndindex(wanted.shape):
            at = [some[i] for some, i in zip(ranges, place, strict=True)]
            wanted[place] = np.ravel_multi_index(at, list(self.loop.values())) if at else 0
        found = [self._numbered(int(number), inner) for number in wanted.reshape(-1)]
        return np.stack(found).reshape(*wanted.shape, *found[0].shape)

    def _numbered(self, number: int, box: Box) -> AnyArray:
        return self.in_whole(number, self.parts[number][box])

    def in_whole(self, number: int, labels: AnyArray) -> AnyArray:
        """Turn labels of the part with this number into those of the whole."""
        if self.renumbered is not None:
            found: AnyArray = self.renumbered[number][labels]
            return found
        start = self.starts[number]
        return labels if start == 0 else np.where(labels > 0, labels + start, 0)

    def fullest_plane(self) -> dict[str, int]:
        """Give the position along t and z of the plane with most objects, the first of equals."""
        counts = [self._counts(part) for part in self.parts]
        number, z = np.unravel_index(int(np.argmax(counts)), (len(counts), len(counts[0])))
        own = {"z": int(z)} if "z" in self.space else {}
        return self.positions()[int(number)] | own

    def _counts(self, part: Labels) -> list[int]:
        if "z" not in self.space:
            return [int(np.count_nonzero(part.numbers))]  # of classes some may be missing
        planes = []
        for z in range(part.size[0]):
            there = np.zeros(part.count + 1, np.bool_)
            for box in boxes(part.size[1:], part.block):
                there[np.unique(part[slice(z, z + 1), *box])] = True
            planes.append(int(np.count_nonzero(there[1:])))
        return planes


def without_border(stored: Any, numbers: AnyArray, size: Sequence[int]) -> AnyArray:  # noqa: ANN401  (an array of zarr)
    """Take the objects that touch the edge of the image along y or x out of the numbering."""
    *planes, height, width = size
    before = tuple(slice(0, n) for n in planes)
    edges = (
        np.s_[0:1, 0:width],
        np.s_[height - 1 : height, 0:width],
        np.s_[0:height, 0:1],
        np.s_[0:height, width - 1 : width],
    )
    seen = [np.asarray(stored[(*before, *edge)]).ravel() for edge in edges]
    kept = numbers.copy()
    kept[np.unique(np.concatenate(seen))] = 0
    return closed_up(kept)[0]


def in_image(stored: Any, count: int, size: Sequence[int], side: int) -> AnyArray:  # noqa: ANN401  (as above)
    """Give the objects labels in raster order of what of them is in the image.

    A coarse map ends beyond the image: an object may lie there as a whole, or begin there.

    Parameters
    ----------
    stored : ((z,) y, x) numbers of the objects as they were found
    count : of these objects
    size : of the image, px
    side : of the blocks in which they are read, px

    Returns
    -------
    (count + 1,) int64
        the label of each; 0 for one that is not in the image
    """
    unseen = np.iinfo(np.int64).max
    first = np.full(count + 1, unseen)
    for box in boxes(size, (*(1 for _ in size[:-2]), side, side)):
        part = np.asarray(stored[box])
        numbers, begins = np.unique(part, return_index=True)
        places = np.unravel_index(begins, part.shape)
        moved = tuple(place + side.start for place, side in zip(places, box, strict=True))
        flat = np.ravel_multi_index(moved, tuple(size))
        first[numbers] = np.minimum(first[numbers], flat)
    first[0] = unseen
    ranks = np.zeros(count + 1, np.int64)
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < unseen)]
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


def overview(
    labels: LabelStack, image: ImageSource, longest: int = OVERVIEW_PX
) -> tuple[Pixels, Pixels]:
    """Give the plane with most objects, shrunk by a whole factor so that it fits a picture.

    Of pixels that fall together the mean is given, of labels the first.

    Parameters
    ----------
    longest : side of the picture, px

    Returns
    -------
    Pixels, Pixels
        the image, (c,) y, x; and the labels, y, x
    """
    at = labels.fullest_plane()
    plane = {axis: slice(i, i + 1) for axis, i in at.items()}
    sides = tuple(labels.shape[-2:])
    step = max(1, -(-max(sides) // longest))
    side = -(-max(max(part.block) for part in labels.parts) // step) * step
    height, width = (-(-n // step) for n in sides)
    numbers = np.zeros((height, width), np.int64)
    shown: Pixels | None = None
    for y, x in boxes(sides, (side, side)):
        place = tuple(slice(s.start // step, -(-s.stop // step)) for s in (y, x))
        inside = labels[(*plane.values(), y, x)]
        numbers[place] = inside.reshape(inside.shape[-2:])[::step, ::step]
        part = image.region({**plane, "y": y, "x": x}).part(dict.fromkeys(plane, 0))
        small = _means(part.array, step)
        if shown is None:
            pixels = np.zeros((*small.shape[:-2], height, width), small.dtype)
            shown = replace(part, array=pixels, pixel_um={})
        pixels[..., place[0], place[1]] = small
    assert shown is not None  # noqa: S101  (an image has pixels; this tells the type checker)
    return shown, Pixels(numbers, ("y", "x"))


def _means(pixels: AnyArray, step: int) -> AnyArray:
    """Average every `step` x `step` pixels along y and x, the last ones as many as there are."""
    if step == 1:
        return pixels
    sums, counts = pixels.astype(np.float64), np.ones(pixels.shape[-2:])
    with np.errstate(over="ignore", invalid="ignore"):  # as when it is stretched
        for axis in (-2, -1):
            starts = np.arange(0, pixels.shape[axis], step)
            sums, counts = (np.add.reduceat(some, starts, axis) for some in (sums, counts))
        return (sums / counts).astype(np.float32)

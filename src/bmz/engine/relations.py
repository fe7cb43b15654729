"""Relate the labels of an image to another mask: restrict, pair or assign them to its objects.

The mask is read and labels are rewritten block by block, so that an image in parts gives the same
result as in one piece.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box, boxes
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.engine.further_images import MaskWithoutLabels, PlannedMask
from bmz.engine.label_stack import Extents, Labels, LabelStack
from bmz.image.region import ImageSource
from bmz.plan.plan import Blocks
from bmz.process.blocks import Found, WritableArray
from bmz.process.object_columns import Columns, rows_of
from bmz.process.relations import (
    Pairing,
    Shared,
    most_shared,
    pair_up,
    part_among,
    shared_pixels,
    sum_shared,
)

Scratch = Callable[[tuple[int, ...]], WritableArray]
"""Creates an array for labels, in memory or on disk, uint32 and filled with 0."""

_MOST = 2**32


@dataclass(frozen=True)
class OtherMask:
    """A label mask on the grid of an image, read in parts.

    Parameters
    ----------
    source : pixels of the mask
    """

    source: ImageSource

    def part(self, at: Mapping[str, int], space: str, box: Box) -> AnyArray:
        """Read the labels within a box of a plane or stack.

        Parameters
        ----------
        at : position of the plane or stack along t and z
        space : axes of `box`
        """
        sides = {a: slice(i, i + 1) for a, i in at.items()} | dict(zip(space, box, strict=True))
        axes = self.source.info.axes
        region = self.source.region({a: side for a, side in sides.items() if a in axes})
        labels = region.array.reshape([side.stop - side.start for side in box])
        if labels.dtype.kind != "b" and labels.size:
            low, high = labels.min(), labels.max()
            if low < 0 or high >= _MOST:
                raise MaskWithoutLabels(self.source.info, f"it has numbers from {low} to {high}")
        return labels


@dataclass(frozen=True)
class RelatedLabels:
    """Labels that have been related to other masks.

    Parameters
    ----------
    labels : the labels, whose numbers may have gaps
    columns : heading -> value of each label, at its number
    """

    labels: LabelStack
    columns: Mapping[str, AnyArray]

    @property
    def objects(self) -> int:
        """Number of objects."""
        return len(_names(self.labels))


@dataclass(frozen=True)
class Relation:
    """A relation between a mask and labels.

    Parameters
    ----------
    brought : relates the labels to the mask
    rewrites : whether the labels themselves change, rather than only gain columns
    """

    brought: Callable[[RelatedLabels, OtherMask, Scratch, Blocks], RelatedLabels]
    rewrites: bool = True


def _kept_within(
    known: RelatedLabels, mask: OtherMask, scratch: Scratch, blocks: Blocks
) -> RelatedLabels:
    """Remove pixels outside the objects of a mask, and renumber the remaining labels in order."""
    stack, highest = known.labels, _highest(known.labels)
    parts = []
    for number, view in enumerate(_views(stack, mask)):
        kept = scratch(view.size)
        for box in view.boxes(blocks):
            kept[box] = np.where(view.other(box) > 0, view.own(box), 0)
        parts.append(_part(stack, number, kept, np.arange(highest + 1), blocks))
    names = np.unique(np.concatenate([names for _, names in parts]))
    ranks = [np.searchsorted(names, of_part) for _, of_part in parts]
    labels = replace(stack, parts=[part for part, _ in parts], renumbered=ranks)
    columns = {heading: column[names] for heading, column in known.columns.items()}
    return RelatedLabels(labels, columns)


def _paired(
    known: RelatedLabels, mask: OtherMask, scratch: Scratch, blocks: Blocks
) -> RelatedLabels:
    """Make one object for each object of a mask, which has its number and contains it entirely."""
    stack = known.labels
    pairing = pair_up(_shared(stack, mask, blocks), _highest(stack))
    origin = pairing.origin()
    parts = []
    for number, view in enumerate(_views(stack, mask)):
        paired = scratch(view.size)
        for box in view.boxes(blocks):
            own, other = view.own(box), view.other(box)
            numbers = np.maximum(pairing.numbers, 0)[own]
            paired[box] = np.where(other > 0, pairing.new_number(other), numbers)
        for box, one in _to_be_parted(view, pairing, blocks):
            own, other = view.own(box), view.other(box)
            inside = own == one
            seeds = np.where(inside & (pairing.holder(other) == one), other, 0)
            # an object that is joined over frames may have no seed in this one
            parts_of = part_among(inside, seeds) if seeds.any() else pairing.lowest_seed(one)
            mine = inside & (other == 0)
            paired[box] = np.where(mine, parts_of, np.asarray(paired[box]))
        parts.append(_part(stack, number, paired, origin, blocks))
    labels = replace(
        stack, parts=[part for part, _ in parts], renumbered=[names for _, names in parts]
    )
    of_seed = np.zeros(len(origin), np.bool_)
    of_seed[pairing.seeds] = True
    columns = {heading: column[origin] for heading, column in known.columns.items()}
    return RelatedLabels(labels, {**columns, "paired": of_seed})


def _with_parent(
    known: RelatedLabels, mask: OtherMask, scratch: Scratch, blocks: Blocks
) -> RelatedLabels:
    """Add a column with the object of the mask that contains most of each label."""
    del scratch
    objects, parents = most_shared(_shared(known.labels, mask, blocks), background=False)
    column = np.full(_highest(known.labels) + 1, np.nan)
    column[objects] = np.where(parents > 0, parents, np.nan)
    return replace(known, columns={**known.columns, "parent": column})


RELATIONS: Mapping[str, Relation] = {
    "mask": Relation(_kept_within),
    "pair": Relation(_paired),
    "parent": Relation(_with_parent, rewrites=False),
}
"""Relations between masks and labels, in the order in which they are applied."""


def related(
    stack: LabelStack, masks: Mapping[str, PlannedMask], scratch: Scratch, blocks: Blocks
) -> RelatedLabels:
    """Relate labels to other masks.

    Parameters
    ----------
    stack : labels of an image
    masks : relation of `RELATIONS` -> label mask on the same grid
    scratch : creates arrays for labels
    blocks : blocks in which they are read and written

    Raises
    ------
    MaskWithoutLabels
        A mask has values that cannot be labels.
    """
    known = RelatedLabels(stack, {})
    for name, relation in RELATIONS.items():
        if name in masks:
            with masks[name].opened() as source:
                known = relation.brought(known, OtherMask(source), scratch, blocks)
    return known


class MaskOfJoined(WrongUsage):
    """Labels that are joined over planes would be rewritten by a mask."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"--{name} changes the labels of planes that --link joins and lists in a table",
            hint=f"leave z out of --link, or use a 3-D model; or leave out --{name}",
            code="relation.joined",
        )


def refuse_joined(relations: Iterable[str], link: Collection[str]) -> None:
    """Raise if a relation would rewrite labels that are joined over planes.

    Raises
    ------
    MaskOfJoined
    """
    for name in relations:
        if RELATIONS[name].rewrites and "z" in link:
            raise MaskOfJoined(name)


@dataclass(frozen=True)
class _View:
    """One plane or stack of labels, and the same plane or stack of the other mask."""

    stack: LabelStack
    number: int
    at: Mapping[str, int]
    mask: OtherMask

    @property
    def size(self) -> tuple[int, ...]:
        return self.stack.parts[self.number].size

    def boxes(self, blocks: Blocks) -> Iterator[Box]:
        return _boxes(self.size, blocks)

    def own(self, box: Box) -> AnyArray:
        return self.stack.in_whole(self.number, self.stack.parts[self.number][box])

    def other(self, box: Box) -> AnyArray:
        return self.mask.part(self.at, self.stack.space, box)


def _boxes(size: Sequence[int], blocks: Blocks) -> Iterator[Box]:
    side = blocks.side_for(prod(size[:-2]))
    return boxes(size, (*size[:-2], side, side))


def _views(stack: LabelStack, mask: OtherMask) -> Iterator[_View]:
    for number, at in enumerate(stack.positions()):
        yield _View(stack, number, at, mask)


def _shared(stack: LabelStack, mask: OtherMask, blocks: Blocks) -> Shared:
    return sum_shared(
        [
            shared_pixels(view.own(box), view.other(box))
            for view in _views(stack, mask)
            for box in view.boxes(blocks)
        ]
    )


def _to_be_parted(view: _View, pairing: Pairing, blocks: Blocks) -> Iterator[tuple[Box, int]]:
    """Yield the bounding boxes and numbers of objects that contain several seeds."""
    several = pairing.several
    if not len(several):
        return
    places = np.zeros(len(pairing.numbers), np.int64)
    places[several] = np.arange(1, len(several) + 1)
    extents = Extents(len(several), view.size)
    for box in view.boxes(blocks):
        extents.look(places[view.own(box)], box)
    for place, one in enumerate(several, start=1):
        around = extents.box(place)
        if around is not None:
            yield around, int(one)


def _part(
    stack: LabelStack, number: int, stored: WritableArray, origin: AnyArray, blocks: Blocks
) -> tuple[Labels, AnyArray]:
    """Return rewritten labels of a plane or stack, and the number of each in the whole image.

    Parameters
    ----------
    stored : numbers in the whole image
    origin : for each of these numbers, the previous number of the object
    """
    size = stack.parts[number].size
    extents = Extents(len(origin) - 1, size)
    for box in _boxes(size, blocks):
        extents.look(np.asarray(stored[box]), box)
    names = np.append(0, extents.there())
    numbers = np.zeros(len(origin), np.int64)
    numbers[names] = np.arange(len(names))
    objects = Found([extents.first[1:]], [_columns(stack, number, origin)])
    side = blocks.side_for(prod(size[:-2]))
    return Labels(stored, numbers, objects, size, (side, side), extents.longest()), names


def _columns(stack: LabelStack, number: int, origin: AnyArray) -> Columns:
    part = stack.parts[number]
    whole = stack.in_whole(number, np.arange(part.count + 1))
    known = part.objects.columns_by(part.numbers)
    by_number = np.zeros(_highest(stack) + 1, np.int64)
    by_number[whole] = np.arange(len(whole))
    # an object of another plane has neither a row nor a pixel here
    own = by_number[origin[1:]]
    return rows_of({n: np.append(np.zeros(1, c.dtype), c) for n, c in known.items()}, own)


def _names(stack: LabelStack) -> AnyArray:
    """Return the numbers of all objects, in order."""
    present = [
        stack.in_whole(number, np.unique(part.numbers[part.numbers > 0]))
        for number, part in enumerate(stack.parts)
    ]
    return np.unique(np.concatenate(present))


def _highest(stack: LabelStack) -> int:
    return stack.count


def held(shape: tuple[int, ...]) -> WritableArray:
    """Create an array for labels in memory."""
    return np.zeros(shape, np.uint32)


def on_disk_in(folder: Path) -> Scratch:
    """Return a function that creates arrays for labels in a folder."""
    from bmz.write.ome_zarr import scratch_array

    made: list[Path] = []

    def scratch(shape: tuple[int, ...]) -> WritableArray:
        made.append(folder / f"related-{len(made):06d}")
        if made[-1].exists():  # of a run that was stopped
            shutil.rmtree(made[-1])
        return scratch_array(made[-1], shape, np.dtype(np.uint32))

    return scratch

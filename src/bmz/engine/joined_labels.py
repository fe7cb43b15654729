"""Labels of a large image on the disk, joined over planes and frames without being held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.boxes import Box, boxes
from bmz.base.link import Link
from bmz.engine.label_stack import Labels, LabelStack
from bmz.plan.plan import Blocks
from bmz.process.blocks import Found
from bmz.process.joined import joined_scores, measured_together
from bmz.process.linking import link_labels

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Joined:
    """What joined labels are written and measured as.

    Parameters
    ----------
    labels : with the numbers of the whole; the planes of a stack that were joined are one part
    planes : the same, each plane by itself; None where planes were not joined
    """

    labels: LabelStack
    planes: LabelStack | None = None


def joined(labels: LabelStack, link: Link, blocks: Blocks) -> Joined:
    """Join the labels of all planes or stacks of an image, as `bmz.process.linking` does.

    Parameters
    ----------
    labels : of an image, each plane or stack numbered by itself
    link : over which axes of its loop, and how
    blocks : in which they are looked at, and measured later
    """
    numbers = link_labels(labels.parts, labels.loop, link)
    renumbered = replace(labels, renumbered=numbers)
    if "z" not in link.ious:
        return Joined(renumbered)
    groups = measured_together(labels.loop, "t")
    scores = _scores(labels, numbers, groups)
    frames = [
        _frame(labels, numbers, group, None if scores is None else scores[position], blocks)
        for position, group in enumerate(groups)
    ]
    loop = {axis: size for axis, size in labels.loop.items() if axis != "z"}
    parts, names = zip(*frames, strict=True)
    return Joined(LabelStack(parts, loop, f"z{labels.space}", names), renumbered)


def _scores(
    labels: LabelStack, numbers: Sequence[Integers], groups: Sequence[Sequence[int]]
) -> list[FloatArray] | None:
    found = [part.found.scores_by(part.numbers) for part in labels.parts]
    known = [scores for scores in found if scores is not None]
    return joined_scores(known, numbers, groups) if len(known) == len(found) else None


def _frame(
    labels: LabelStack,
    numbers: Sequence[Integers],
    group: Sequence[int],
    scores: FloatArray | None,
    blocks: Blocks,
) -> tuple[Labels, Integers]:
    """Give the planes of one frame as a stack, and the number that each of its labels has."""
    planes = [labels.parts[member] for member in group]
    names = np.unique(np.concatenate([np.zeros(1, np.int64), *(numbers[m] for m in group)]))
    own = [np.searchsorted(names, numbers[member]) for member in group]
    stored = _Planes(planes, own)
    first, longest = _places(stored, len(names) - 1, blocks.side_px)
    found = Found([first], [] if scores is None else [scores[names[1:] - 1]])
    side = blocks.side_for(len(planes))
    everyone = np.arange(len(names))
    return Labels(stored, everyone, found, stored.shape, (side, side), longest), names


@dataclass(frozen=True)
class _Planes:
    """Planes as a stack, with the numbers that their labels have in it."""

    planes: Sequence[Labels]
    numbers: Sequence[Integers]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.planes), *self.planes[0].size)

    def __getitem__(self, box: Box) -> AnyArray:
        wanted = range(*box[0].indices(len(self.planes)))
        return np.stack([self.numbers[z][self.planes[z][box[1:]]] for z in wanted])


def _places(stack: _Planes, count: int, side: int) -> tuple[Integers, tuple[int, int]]:
    """Find the first pixel of each object of a stack, and how high and wide the largest are.

    Returns
    -------
    (count,), (int, int)
        flat positions of label k at k - 1; px along y and x
    """
    first = np.full(count + 1, np.iinfo(np.int64).max)
    low = np.full((count + 1, 2), np.iinfo(np.int64).max)
    high = np.zeros((count + 1, 2), np.int64)
    for box in boxes(stack.shape, (1, side, side)):
        labels = stack[box]
        numbers, begins, own = np.unique(labels, return_index=True, return_inverse=True)
        places = np.unravel_index(begins, labels.shape)
        moved = tuple(place + side.start for place, side in zip(places, box, strict=True))
        first[numbers] = np.minimum(first[numbers], np.ravel_multi_index(moved, stack.shape))
        starts = np.array([side.start for side in box[1:]])
        for number, found in zip(
            numbers, ndimage.find_objects(own.reshape(labels.shape) + 1), strict=True
        ):
            low[number] = np.minimum(low[number], [s.start for s in found[1:]] + starts)
            high[number] = np.maximum(high[number], [s.stop for s in found[1:]] + starts)
    if not count:
        return first[1:], (0, 0)
    tall, wide = (high[1:] - low[1:]).max(axis=0)
    return first[1:], (int(tall), int(wide))

"""The parts of a label mask in which its objects lie, each of them whole in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bmz.engine.label_stack import LabelStack
from bmz.write.result import Region


def bands(labels: LabelStack) -> Iterator[tuple[int, Mapping[str, int], slice]]:
    """Give the rows of blocks of a mask in which objects are looked at together.

    They are all blocks of a plane that lie side by side, since labels are numbered from the top;
    and all of a stack, or of a plane whose labels were joined to those of others, where they are
    not.

    Yields
    ------
    int, dict, slice
        the number of the part of the mask, its position along the axes of the loop, and the rows
    """
    together = "z" in labels.space or labels.renumbered is not None
    for number, at in enumerate(labels.positions()):
        part = labels.parts[number]
        high = part.block[0] if not together else max(part.size[-2], 1)
        for top in range(0, part.size[-2], high):
            yield number, at, slice(top, min(top + high, part.size[-2]))


def object_regions(labels: LabelStack) -> Iterator[tuple[Mapping[str, int], Iterator[Region]]]:
    """Give the regions of each of the `bands`, with the position along the axes of the loop."""
    for number, at, rows in bands(labels):
        yield at, _regions(labels, number, rows)


def _regions(labels: LabelStack, number: int, rows: slice) -> Iterator[Region]:
    part = labels.parts[number]
    planes = tuple(slice(0, n) for n in part.size[:-2])
    for y, x, own in part.cores(rows):
        if not own.any():
            continue
        window = part.window((y, x))
        numbers = part[(*planes, *window)]
        if not own[1:].all():
            numbers = np.where(own[numbers], numbers, 0)
        yield Region(labels.in_whole(number, numbers), window[0].start, window[1].start)

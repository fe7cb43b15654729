"""The compiled loop of `bmz.process.distance_watershed`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]


@compiled
def root_of(parent: Indices, place: int) -> int:
    """Give the root of a place, and shorten the way to it (union-find with path halving)."""
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place


@compiled
def mark_peaks(
    marked: BoolArray,
    parent: Indices,
    top: Indices,
    surface: FloatArray,
    order: Indices,
    steps: Indices,
    least_rise: np.float32,
) -> None:
    """Mark the pixels that are peaks.

    Parameters
    ----------
    marked : (pixels,), false; becomes true at peaks
    parent, top : (pixels,) room, -1 and anything
    surface : (pixels,) float32 of a padded map
    order : the pixels to walk over, the highest first
    steps : how far the neighbours are away
    least_rise : of a peak above the place where it meets a higher one
    """
    for nth in range(order.size):
        place = order[nth]
        parent[place] = place
        top[place] = place
        for step in steps:
            if parent[place + step] < 0:
                continue
            here = root_of(parent, place)
            there = root_of(parent, place + step)
            if here == there:
                continue
            higher = surface[top[here]] > surface[top[there]]
            equal = surface[top[here]] == surface[top[there]]
            if higher or (equal and top[here] < top[there]):
                here, there = there, here
            # the peak of `here` is the lower one, and it ends at this place
            if surface[top[here]] - surface[place] >= least_rise:
                marked[top[here]] = True
            parent[here] = there
    for nth in range(order.size):
        if parent[order[nth]] == order[nth]:
            marked[top[order[nth]]] = True

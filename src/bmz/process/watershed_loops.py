"""The compiled loops of watersheds: floods, and peaks that rise above their saddles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray, LabelArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]

RIM = 1 << 30
"""Added to a pixel that was taken in this very pass, which so counts as no seed."""

HIGH = 1 << 29
"""Added to a pixel of a seed from which something open may be reached."""


@compiled
def take_rim(
    state: LabelArray, levels: NDArray[np.uint16], steps: Indices, rim: Indices, room: Indices
) -> int:
    """Give each open pixel whose lowest neighbour is a pixel of a seed to it, if it is no lower.

    Nothing can come to such a pixel before; this pass over the map does most of the work.

    Parameters
    ----------
    state : (pixels,) int32, changed
    levels : (pixels,) of all pixels
    steps : to the neighbours
    rim : (pixels,), of which the first become the pixels from which something open can be reached
    room : (levels + 1,) of 0; becomes, behind a 0, how many pixels of each level will be queued

    Returns
    -------
    int
        how many pixels are in `rim`
    """
    for place in range(state.size):
        if state[place] < 0:
            _take(state, levels, steps, place)
    count = 0
    for place in range(state.size):
        if state[place] < 0:
            room[-state[place]] += 1
        elif state[place] >= HIGH:
            state[place] &= HIGH - 1
            beside = False
            for step in steps:
                beside = beside or state[place + step] < 0
            if beside:
                rim[count] = place
                room[levels[place] + 1] += 1
                count += 1
    return count


@compiled
def _take(state: LabelArray, levels: NDArray[np.uint16], steps: Indices, place: int) -> None:
    # by the lowest beside it, or else the seeds beside it are marked
    lowest, taker = levels[place] + 1, 0
    for step in steps:
        seed, height = state[place + step], levels[place + step]
        is_seed = 0 < seed < RIM
        if seed != 0 and (height < lowest or (is_seed and taker == 0 and height == lowest)):
            lowest, taker = height, seed if is_seed else 0
    if taker > 0:
        state[place] = (taker & (HIGH - 1)) + RIM
    else:
        for step in steps:
            if 0 < state[place + step] < HIGH:
                state[place + step] += HIGH


@compiled
def spread(
    state: LabelArray, steps: Indices, queue: Indices, first: Indices, last: Indices, below: Indices
) -> None:
    """Flood what is open, level by level, the first that came first.

    What lies below the level that is flooded is flooded at once.

    Parameters
    ----------
    state : (pixels,) int32, changed
    steps : to the neighbours
    queue : (pixels,) room for all pixels of all levels, with those to begin with
    first, last : (levels,) where in `queue` the pixels of each level begin, and end so far
    below : (pixels,) room for pixels that are reached from above
    """
    done = came = 0
    for level in range(first.size):
        turn = first[level]
        while done < came or turn < last[level]:
            if done < came:
                place = below[done]
                done += 1
            else:
                place = queue[turn]
                turn += 1
            for step in steps:
                height = -1 - state[place + step]
                if height < 0:
                    continue
                state[place + step] = state[place]
                if height < level:
                    below[came] = place + step
                    came += 1
                else:
                    queue[last[height]] = place + step
                    last[height] += 1


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

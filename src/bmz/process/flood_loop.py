"""The compiled loops of `bmz.process.flooding`.

A pixel's state is the number of its seed, 0 where nothing may be flooded, or below 0 where it is
still open: -1 - level. Maps are flat, with a margin of 0 around them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import LabelArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]

RIM = 1 << 30
"""Added to a pixel that was taken in this very pass, which so counts as no seed."""

HIGH = 1 << 29
"""Added to a pixel of a seed from which something open may be reached."""


@compiled
def take_rim(state: LabelArray, levels: NDArray[np.uint16], steps: Indices) -> Indices:
    """Give each open pixel whose lowest neighbour is a pixel of a seed to it, if it is no lower.

    Nothing can come to such a pixel before; this pass over the map does most of the work.

    Parameters
    ----------
    state : (pixels,) int32, changed
    levels : (pixels,) of all pixels
    steps : to the neighbours

    Returns
    -------
    (n,) those of the pixels from which something open can be reached
    """
    rim = 0
    for place in range(state.size):
        if state[place] < 0:
            rim += _take(state, levels, steps, place)
    flagged = np.empty(rim, np.intp)
    rim = 0
    for place in range(state.size):
        if state[place] >= HIGH:
            state[place] &= HIGH - 1
            if _is_beside_open(state, place, steps):
                flagged[rim] = place
                rim += 1
    return flagged[:rim]


@compiled
def _take(state: LabelArray, levels: NDArray[np.uint16], steps: Indices, place: int) -> int:
    # how many pixels it flags: the open one, or else those of seeds beside it
    lowest, taker = levels[place] + 1, 0
    for step in steps:
        seed, height = state[place + step], levels[place + step]
        is_seed = 0 < seed < RIM
        if seed != 0 and (height < lowest or (is_seed and taker == 0 and height == lowest)):
            lowest, taker = height, seed if is_seed else 0
    if taker > 0:
        state[place] = (taker & (HIGH - 1)) + RIM
        return 1
    flagged = 0
    for step in steps:
        if 0 < state[place + step] < HIGH:
            state[place + step] += HIGH
            flagged += 1
    return flagged


@compiled
def _is_beside_open(state: LabelArray, place: int, steps: Indices) -> bool:
    beside = False
    for step in steps:
        beside = beside or state[place + step] < 0
    return beside


@compiled
def spread(
    state: LabelArray, levels: NDArray[np.uint16], steps: Indices, rim: Indices, count: int
) -> None:
    """Flood what is open from the rim on, level by level, the first that came first.

    What lies below the level that is flooded is flooded at once.

    Parameters
    ----------
    state : (pixels,) int32, changed
    levels : (pixels,) of all pixels
    steps : to the neighbours
    rim : where to begin
    count : of levels
    """
    first = _room(state, levels, rim, count)
    last = first.copy()
    queue = np.empty(first[count], np.intp)
    below = np.empty(first[count], np.intp)
    for place in rim:
        queue[last[levels[place]]] = place
        last[levels[place]] += 1
    done = came = 0
    for level in range(count):
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
def _room(state: LabelArray, levels: NDArray[np.uint16], rim: Indices, count: int) -> Indices:
    # where the bucket of each level begins: every pixel is queued once at most
    first = np.zeros(count + 1, np.intp)
    for place in rim:
        first[levels[place] + 1] += 1
    for place in range(state.size):
        if state[place] < 0:
            first[-state[place]] += 1
    for level in range(count):
        first[level + 1] += first[level]
    return first

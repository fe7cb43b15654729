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


@compiled
def take_rim(state: LabelArray, levels: NDArray[np.uint16], steps: Indices) -> Indices:
    """Give each open pixel beside a seed to it, of several to the lowest pixel of a seed.

    Parameters
    ----------
    state : (pixels,) int32, changed
    levels : (pixels,) of all pixels
    steps : to the neighbours

    Returns
    -------
    (n,) those of the pixels from which something open can be reached
    """
    taken = 0
    for place in range(state.size):
        if state[place] < 0:
            least = -1
            for step in steps:
                seed = state[place + step]
                if 0 < seed < RIM and (least < 0 or levels[place + step] < least):
                    least = levels[place + step]
                    state[place] = seed + RIM
            taken += least >= 0
    rim = np.empty(taken, np.intp)
    taken = 0
    for place in range(state.size):
        if state[place] > RIM:
            state[place] -= RIM
            if _is_beside_open(state, place, steps):
                rim[taken] = place
                taken += 1
    return rim[:taken]


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

"""The compiled loops of watersheds, and of regions that affinities join."""

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
    state: LabelArray, levels: NDArray[np.uint16], steps: Indices, rim: LabelArray, room: Indices
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
    state: LabelArray,
    steps: Indices,
    queue: LabelArray,
    first: Indices,
    last: Indices,
    below: LabelArray,
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


EMPTY = -1


@compiled
def slot_of(table: Indices, key: int) -> int:
    """Give the place of a key in a hash table, or the free place where it belongs."""
    # Fibonacci hashing: neighbouring keys must not lie side by side
    slot = ((key * 0x9E3779B97F4A7C1) & 0x7FFFFFFFFFFFFFFF) % table.size
    while table[slot] != EMPTY and table[slot] != key:
        slot = slot + 1 if slot + 1 < table.size else 0
    return slot


@compiled
def enter(wide: Indices, table: Indices) -> None:
    """Put the keys of a hash table into a wider one."""
    for at in range(table.size):
        if table[at] != EMPTY:
            wide[slot_of(wide, table[at])] = table[at]


@compiled
def key_of(one: int, other: int, count: int) -> int:
    """Give the number of a pair, whichever of the two comes first."""
    return one * count + other if one < other else other * count + one


@compiled
def cut_edges(
    parent: Indices,
    chains: Indices,
    links: Indices,
    table: Indices,
    progress: Indices,
    one: Indices,
    other: Indices,
    order: Indices,
    joins: int,
) -> None:
    """See edges in their order; the first `joins` join, the others tell apart.

    A root keeps a chain of those it was told apart from. Pairs of roots that are apart stand in a
    hash table; when two roots become one, the shorter chain is entered anew under the new root.

    Parameters
    ----------
    parent : (pixels,) each its own; its chains of parents lead to roots
    chains : (3, pixels) of each root the first and the last link of its chain, -1 where there is
        none, and the number of links, 0
    links : (2, twice the edges that tell apart) room for the following link, and for what is at
        the end of a link
    table : a hash table, -1 where there is no key
    progress : (4,) how many edges are seen, keys entered and links made, 0; when not all edges are
        seen, the table must hold the last one of keys before it goes on
    one, other : (edges,) flat positions
    order : (edges,) the strongest first
    joins : edges below this number join
    """
    for at in range(progress[0], order.size):
        edge = order[at]
        here, there = root_of(parent, one[edge]), root_of(parent, other[edge])
        if here == there:
            continue
        key = key_of(here, there, parent.size)
        slot = slot_of(table, key)
        if table[slot] != key:
            if chains[2, here] > chains[2, there]:
                here, there = there, here
            # `here` has the shorter chain and becomes part of `there`
            progress[3] = progress[1] + (1 if edge >= joins else chains[2, here])
            if 2 * progress[3] > table.size:
                progress[0] = at
                return
            if edge >= joins:
                table[slot] = key
                progress[1] += 1
                append(chains, links, here, there, progress)
                append(chains, links, there, here, progress)
            else:
                parent[here] = there
                reenter(parent, chains, links, table, progress, here, there)
    progress[0] = order.size


@compiled
def reenter(
    parent: Indices,
    chains: Indices,
    links: Indices,
    table: Indices,
    progress: Indices,
    here: int,
    there: int,
) -> None:
    """Enter the chain of `here` under `there`, and put it behind that of `there`."""
    link = chains[0, here]
    if link == EMPTY:
        return
    if chains[0, there] == EMPTY:
        chains[0, there] = link
    else:
        links[0, chains[1, there]] = link
    while link != EMPTY:
        key = key_of(there, root_of(parent, links[1, link]), parent.size)
        slot = slot_of(table, key)
        if table[slot] == EMPTY:
            table[slot] = key
            progress[1] += 1
        link = links[0, link]
    chains[1, there] = chains[1, here]
    chains[2, there] += chains[2, here]


@compiled
def append(chains: Indices, links: Indices, owner: int, end: int, progress: Indices) -> None:
    """Put a link to `end` behind the chain of `owner`."""
    link = progress[2]
    links[0, link], links[1, link] = EMPTY, end
    if chains[0, owner] == EMPTY:
        chains[0, owner] = link
    else:
        links[0, chains[1, owner]] = link
    chains[1, owner] = link
    chains[2, owner] += 1
    progress[2] += 1


@compiled
def grow_fragments(
    parent: Indices, made: BoolArray, one: Indices, other: Indices, order: Indices, sure: int
) -> None:
    """Join pixels over sure edges, then let the fragments grow over the others.

    Parameters
    ----------
    parent : (pixels,) each its own; becomes a root for each pixel, -1 for those that no fragment
        has reached
    made : (pixels,) of which root there is a fragment, false
    one, other : (edges,) flat positions
    order : edges that may join, the strongest first
    sure : so many of them make fragments; over the others a fragment takes in single pixels, and
        single pixels that met, but never another fragment
    """
    for nth in range(order.size):
        edge = order[nth]
        here, there = root_of(parent, one[edge]), root_of(parent, other[edge])
        if here == there or (nth >= sure and made[here] and made[there]):
            continue
        parent[here] = there
        made[there] = made[there] or made[here] or nth < sure
    for place in range(parent.size):
        parent[place] = root_of(parent, place)
    for place in range(parent.size):
        if not made[parent[place]]:
            parent[place] = EMPTY

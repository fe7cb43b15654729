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
def _is_beside_open(state: LabelArray, steps: Indices, place: int) -> bool:
    beside = False
    for step in steps:
        beside = beside or state[place + step] < 0
    return beside


@compiled
def take_rim(
    state: LabelArray, levels: NDArray[np.uint16], steps: Indices, rim: LabelArray, room: Indices
) -> int:
    """Give each open pixel whose lowest neighbour is a pixel of a seed to it, if it is no lower.

    Nothing can come to such a pixel before. Most of the work is done by this pass over the map.

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
            if _is_beside_open(state, steps, place):
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
    seen: LabelArray,
    queue: LabelArray,
    surface: FloatArray,
    inside: BoolArray,
    steps: Indices,
    least_rise: np.float32,
) -> None:
    """Mark the pixels that are peaks.

    From each pixel that no neighbour is above, the way over all that lies less than `least_rise`
    below it is followed until it comes to something higher. Most are near to that, and the ways of
    peaks have nothing in common, so all ways together are hardly longer than the map.

    Parameters
    ----------
    marked : (pixels,), false; becomes true at peaks
    seen, queue : (pixels,) of 0, and room
    surface : (pixels,) float32 of a padded map; of equal heights the first counts as higher
    inside : (pixels,) where the way may go
    steps : how far the neighbours are away
    least_rise : of a peak above the place where it meets a higher one
    """
    for place in range(surface.size):
        if inside[place] and _is_top(surface, inside, steps, place):
            marked[place] = _rises(seen, queue, surface, inside, steps, place, least_rise)


@compiled
def _is_top(surface: FloatArray, inside: BoolArray, steps: Indices, place: int) -> bool:
    height = surface[place]
    for step in steps:
        beside = surface[place + step]
        if inside[place + step] and (beside > height or (beside == height and step < 0)):
            return False
    return True


@compiled
def _rises(
    seen: LabelArray,
    queue: LabelArray,
    surface: FloatArray,
    inside: BoolArray,
    steps: Indices,
    place: int,
    least_rise: np.float32,
) -> bool:
    # whether the way over what lies less than `least_rise` below comes to nothing higher
    height, came, done = surface[place], 1, 0
    seen[place], queue[0] = place, place
    while done < came:
        for step in steps:
            there = queue[done] + step
            beside = surface[there]
            if inside[there] and seen[there] != place and height - beside < least_rise:
                if beside > height or (beside == height and there < place):
                    return False
                seen[there], queue[came] = place, there
                came += 1
        done += 1
    return True


SLOT_BITS = 31
"""Of a number in a heap; the bits above are those of a height."""


@compiled
def shores(state: LabelArray, steps: Indices, shore: LabelArray) -> int:
    """List the pixels of seeds with something open beside them in `shore`; give how many they are.

    Parameters
    ----------
    state : (pixels,) the number of a seed, 0 where nothing can be flooded, below 0 what is open
    steps : to the neighbours
    """
    count = 0
    for place in range(state.size):
        if state[place] > 0 and _is_beside_open(state, steps, place):
            shore[count] = place
            count += 1
    return count


@compiled
def level_of(height: np.float32, low: np.float32, scale: np.float32) -> int:
    """Give the level of a height: a higher one has no lower level."""
    return int((height - low) * scale)


@compiled
def make_room(
    room: Indices,
    state: LabelArray,
    shore: LabelArray,
    heights: FloatArray,
    low: np.float32,
    scale: np.float32,
) -> None:
    """Count, behind a 0, how many pixels of each level may be queued: what is open, and `shore`."""
    for place in range(state.size):
        if state[place] < 0:
            room[level_of(heights[place], low, scale) + 1] += 1
    for at in range(shore.size):
        room[level_of(heights[shore[at]], low, scale) + 1] += 1


@compiled
def rank_of(bits: np.int64) -> np.int64:
    """Give a whole number that rises with the float32 of these bits."""
    return bits ^ 0xFFFFFFFF if bits >> 31 else bits | 0x80000000


@compiled
def put(heap: Indices, size: int, key: int) -> None:
    """Put a number into a heap of `size` numbers, whose lowest is the first."""
    at = size
    while at > 0 and heap[(at - 1) >> 1] > key:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = key


@compiled
def drop_first(heap: Indices, size: int) -> None:
    """Take the first number out of a heap, of which `size` numbers stay."""
    last, at, child = heap[size], 0, 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= last:
            break
        heap[at] = heap[child]
        at, child = child, 2 * child + 1
    heap[at] = last


@compiled
def flood(
    state: LabelArray,
    heights: FloatArray,
    bits: NDArray[np.uint32],
    steps: Indices,
    low: np.float32,
    scale: np.float32,
    queue: LabelArray,
    first: Indices,
    last: Indices,
    heap: Indices,
    below: LabelArray,
) -> None:
    """Flood what is open, the lowest first, and of equal heights what came first.

    What lies no higher than the height that is flooded comes last of that height. Levels are
    walked up; within a level a heap of heights and places in the queue gives the order.

    Parameters
    ----------
    state : (pixels,) int32, changed
    heights, bits : (pixels,) the same memory, as numbers and as their bits
    steps : to the neighbours
    low, scale : what `level_of` takes
    queue : room for the pixels of all levels, with those to begin with
    first, last : (levels,) where in `queue` the pixels of each level begin, and end so far
    heap, below : room for as many pixels as `queue` has
    """
    for level in range(first.size):
        size = done = came = 0
        height = np.int64(-1)
        for slot in range(first[level], last[level]):
            rank = rank_of(np.int64(bits[queue[slot]]))
            put(heap, size, (rank << SLOT_BITS) | (slot - first[level]))
            size += 1
        while done < came or size > 0:
            if done < came and (size == 0 or heap[0] >> SLOT_BITS > height):
                place = below[done]
                done += 1
            else:
                height = heap[0] >> SLOT_BITS
                place = queue[first[level] + (heap[0] & ((1 << SLOT_BITS) - 1))]
                size -= 1
                drop_first(heap, size)
            for step in steps:
                there = place + step
                if state[there] >= 0:
                    continue
                state[there] = state[place]
                if not _is_beside_open(state, steps, there):
                    continue
                rank = rank_of(np.int64(bits[there]))
                if rank <= height:
                    below[came] = there
                    came += 1
                else:
                    its = level_of(heights[there], low, scale)
                    queue[last[its]] = there
                    if its == level:
                        put(heap, size, (rank << SLOT_BITS) | (last[its] - first[level]))
                        size += 1
                    last[its] += 1


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

"""The compiled loops that number connected regions, and join regions by affinities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray, LabelArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]

EMPTY = -1


@compiled
def root_of(parent: LabelArray, place: int) -> int:
    """Return the root of an element, and shorten its path (union-find with path halving)."""
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place


@compiled
def joined(parent: LabelArray, one: int, other: int) -> int:
    """Join the regions of two elements; return the root, which is the lower of both."""
    here, there = root_of(parent, one), root_of(parent, other)
    low, high = min(here, there), max(here, there)
    parent[high] = low
    return low


@compiled
def number_parts(inside: BoolArray, labels: LabelArray, parent: LabelArray) -> int:
    """Label the regions connected by faces, in raster order; return how many there are.

    Parameters
    ----------
    inside : (z, y, x)
    labels : (z, y, x), of any values; becomes 0 outside, else 1 to the result
    parent : (half of all pixels + 2,) working memory
    """
    count, parent[0] = 0, 0
    for z in range(inside.shape[0]):
        for y in range(inside.shape[1]):
            row, number, left = inside[z, y], labels[z, y], 0
            above, before = labels[z, y - 1 if y else y], labels[z - 1 if z else z, y]
            for x in range(row.size):
                if not row[x]:
                    number[x] = left = 0
                    continue
                if y and above[x] > 0 and above[x] != left:
                    left = joined(parent, left, above[x]) if left else above[x]
                if z and before[x] > 0 and before[x] != left:
                    left = joined(parent, left, before[x]) if left else before[x]
                if left == 0:
                    count += 1
                    parent[count] = left = count
                number[x] = left
    ranks = number_roots(parent[: count + 1])
    for z in range(inside.shape[0]):
        for y in range(inside.shape[1]):
            number = labels[z, y]
            for x in range(number.size):
                number[x] = parent[number[x]]
    return ranks


@compiled
def number_roots(parent: LabelArray) -> int:
    """Replace each parent by the number of its root, 0 for 0; return how many roots follow 0.

    Parents are no larger than their children.
    """
    count = 0
    for place in range(1, parent.size):
        if parent[place] == place:
            count += 1
            parent[place] = count
        else:
            parent[place] = parent[parent[place]]
    return count


@compiled
def join_pairs(parent: LabelArray, one: Indices, other: Indices) -> None:
    """Join regions, pair by pair.

    Parameters
    ----------
    parent : each its own; becomes chains to roots that are lower
    one, other : (pairs,)
    """
    for pair in range(one.size):
        joined(parent, one[pair], other[pair])


@compiled
def join_corners(
    labels: LabelArray, sure: BoolArray, steps: Indices, by_sure: LabelArray, by_any: LabelArray
) -> bool:
    """Join the numbers of pixels that are one step apart; return whether there are any.

    Parameters
    ----------
    labels : (z, y, x), 0 background
    sure : (z, y, x)
    steps : (n, 3) along z, y and x, never within one row
    by_sure, by_any : (numbers,) parents, each its own; joined where both pixels are sure, and
        anywhere
    """
    some, (depth, height, width) = False, labels.shape
    for z in range(depth):
        for y in range(height):
            for nth in range(steps.shape[0]):
                back, up, side = z + steps[nth, 0], y + steps[nth, 1], steps[nth, 2]
                if back < 0 or not 0 <= up < height:
                    continue
                low, high = max(-side, 0), width - max(side, 0)
                row, before = labels[z, y, low:high], labels[back, up, low + side : high + side]
                for x in range(row.size):
                    if row[x] != before[x] and row[x] > 0 and before[x] > 0:
                        some = True
                        joined(by_any, row[x], before[x])
                        if sure[z, y, low + x] and sure[back, up, low + side + x]:
                            joined(by_sure, row[x], before[x])
    return some


@compiled
def renumber(labels: LabelArray, numbers: LabelArray) -> None:
    """Replace each label by its number."""
    for place in range(labels.size):
        labels[place] = numbers[labels[place]]


@compiled
def number_by_place(labels: LabelArray, numbers: LabelArray) -> int:
    """Renumber labels from 1 to n in order of occurrence, and return n.

    Parameters
    ----------
    labels : (pixels,), 0 background
    numbers : (highest label + 1,) of 0; becomes the number of each
    """
    count = 0
    for place in range(labels.size):
        label = labels[place]
        if label > 0 and numbers[label] == 0:
            count += 1
            numbers[label] = count
        labels[place] = numbers[label]
    return count


@compiled
def slot_of(table: Indices, key: int) -> int:
    """Return the slot of a key in a hash table, or the free slot where it belongs."""
    # Fibonacci hashing: neighbouring keys must not be adjacent
    slot = ((key * 0x9E3779B97F4A7C1) & 0x7FFFFFFFFFFFFFFF) % table.size
    while table[slot] != EMPTY and table[slot] != key:
        slot = slot + 1 if slot + 1 < table.size else 0
    return slot


@compiled
def enter(wide: Indices, table: Indices) -> None:
    """Insert the keys of a hash table into a larger one."""
    for at in range(table.size):
        if table[at] != EMPTY:
            wide[slot_of(wide, table[at])] = table[at]


@compiled
def key_of(one: int, other: int, count: int) -> int:
    """Return the number of a pair, whichever of the two comes first."""
    return one * count + other if one < other else other * count + one


@compiled
def cut_edges(
    parent: Indices,
    chains: Indices,
    links: Indices,
    table: Indices,
    progress: Indices,
    one: LabelArray,
    other: LabelArray,
    order: Indices,
    joins: int,
) -> None:
    """Process edges in their order; the first `joins` join regions, the others separate them.

    A root keeps a chain of the roots separated from it. Separated pairs of roots are stored in a
    hash table; when two roots are joined, the shorter chain is re-entered under the new root.

    Parameters
    ----------
    parent : (pixels,) each its own; its chains of parents lead to roots
    chains : (3, pixels) first and last link of the chain of each root, -1 if there is none, and
        the number of links, initially 0
    links : (2, twice the separating edges) working memory for the next link, and for the element
        at the end of a link
    table : a hash table, -1 where there is no key
    progress : (4,) number of edges processed, keys entered and links made, initially 0; if edges
        are left, the table must have room for the last number of keys before continuing
    one, other : (edges,) flat positions
    order : (edges,) the strongest first
    joins : number of edges that join
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
    """Re-enter the chain of `here` under `there`, and append it to that of `there`."""
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
    """Append a link to `end` to the chain of `owner`."""
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
    parent: LabelArray,
    made: BoolArray,
    one: LabelArray,
    other: LabelArray,
    order: Indices,
    sure: int,
) -> None:
    """Join pixels over sure edges, then grow the fragments over the others.

    Parameters
    ----------
    parent : (pixels,) each its own; becomes a root for each pixel, -1 for those that no fragment
        has reached
    made : (pixels,) whether a root has a fragment, initially false
    one, other : (edges,) flat positions
    order : edges that may join, the strongest first
    sure : number of these that make fragments; over the others, a fragment absorbs single pixels
        and joined single pixels, but never another fragment
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


@compiled
def sort_out(
    one: LabelArray,
    other: LabelArray,
    together: FloatArray,
    seeds: LabelArray,
    growth: np.float32,
    order: Indices,
) -> tuple[int, int]:
    """List edges within seeds from the start, and those above `growth` from the end.

    Parameters
    ----------
    one, other, together : (edges,)
    seeds : (pixels,) numbers, 0 for none
    order : (edges,) becomes the numbers of the edges, the last of the second kind first

    Returns
    -------
    (int, int)
        where the first list ends, and where the second one begins
    """
    within, above = 0, order.size
    for edge in range(one.size):
        seed = seeds[one[edge]]
        if seed > 0 and seed == seeds[other[edge]]:
            order[within] = edge
            within += 1
        elif together[edge] > growth:
            above -= 1
            order[above] = edge
    return within, above


@compiled
def number_fragments(parent: LabelArray, numbers: LabelArray, fragments: LabelArray) -> None:
    """Assign numbers to the fragments in the order of their roots.

    Parameters
    ----------
    parent : (pixels,) as `grow_fragments` leaves it
    numbers : (pixels,) working memory
    fragments : (pixels,) becomes the number of each, 0 if there is none
    """
    count = 0
    for place in range(parent.size):
        if parent[place] == place:
            count += 1
            numbers[place] = count
    for place in range(parent.size):
        root = parent[place]
        fragments[place] = numbers[root] if root >= 0 else 0


@compiled
def list_between(one: LabelArray, other: LabelArray, regions: LabelArray, edges: Indices) -> int:
    """List the edges between different regions, and return how many there are."""
    count = 0
    for edge in range(one.size):
        here, there = regions[one[edge]], regions[other[edge]]
        if here != there and here > 0 and there > 0:
            edges[count] = edge
            count += 1
    return count


@compiled
def count_differences(maps: FloatArray, counts: Indices) -> None:
    """Build a histogram of differences from the mean of both neighbours along z, y and x.

    Parameters
    ----------
    maps : (c, z, y, x) float32
    counts : (bins,) of differences from 0 to 1; larger ones are in the last bin
    """
    channels, depth, height, _ = maps.shape
    for c in range(channels):
        for z in range(depth):
            for y in range(height):
                row = maps[c, z, y]
                count_row(row[1:-1], row[:-2], row[2:], counts)
                if 0 < y < height - 1:
                    count_row(row, maps[c, z, y - 1], maps[c, z, y + 1], counts)
                if 0 < z < depth - 1:
                    count_row(row, maps[c, z - 1, y], maps[c, z + 1, y], counts)


@compiled
def count_row(values: FloatArray, before: FloatArray, behind: FloatArray, counts: Indices) -> None:
    """Add a row to the histogram of `count_differences`."""
    bins = np.float32(counts.size)
    for x in range(values.size):
        away = abs(values[x] - (behind[x] + before[x]) * np.float32(0.5))
        nth = int(away * bins) if away < 1 else counts.size
        counts[min(nth, counts.size - 1)] += 1


@compiled
def count_above(values: FloatArray, least: np.float32, counts: Indices) -> None:
    """Build a histogram of values from `least` to 1; larger ones are in the last bin."""
    bins, span = np.float32(counts.size), np.float32(1) - least
    for place in range(values.size):
        above = min(values[place], np.float32(1)) - least
        if above >= 0:
            counts[min(int(above / span * bins), counts.size - 1)] += 1

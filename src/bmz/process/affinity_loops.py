"""The compiled loops of `bmz.process.affinities`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.process.compiled import compiled
from bmz.process.peaks_loop import root_of

Indices = NDArray[np.intp]

EMPTY = -1


@compiled
def slot_of(table: Indices, key: int) -> int:
    """Give the place of a key in a hash table, or the free place where it belongs."""
    size = len(table)
    # Fibonacci hashing: neighbouring keys must not lie side by side
    slot = ((key * 0x9E3779B97F4A7C1) & 0x7FFFFFFFFFFFFFFF) % size
    while table[slot] not in (EMPTY, key):
        slot = slot + 1 if slot + 1 < size else 0
    return int(slot)


@compiled
def larger(table: Indices) -> Indices:
    """Give a hash table of twice the size with the same keys."""
    wide = np.full(2 * len(table) + 1, EMPTY, np.intp)
    for key in table:
        if key != EMPTY:
            wide[slot_of(wide, key)] = key
    return wide


@compiled
def key_of(one: int, other: int, count: int) -> int:
    """Give the number of a pair, whichever of the two comes first."""
    return min(one, other) * count + max(one, other)


@compiled
def cut_edges(count: int, one: Indices, other: Indices, order: Indices, joins: int) -> Indices:
    """See edges in their order; the first `joins` join, the others tell apart.

    A root keeps a chain of those it was told apart from: `first` and `last` edge of its chain,
    `following` edge, and `partner` at the end of it. Pairs of roots that are apart stand in a hash
    table; when two roots become one, the shorter chain is entered anew under the new root.

    Parameters
    ----------
    count : number of pixels
    one, other : (edges,) flat positions
    order : (edges,) the strongest first
    joins : edges below this number join

    Returns
    -------
    (count,) a root for each pixel
    """
    parent = np.arange(count)
    first = np.full(count, EMPTY, np.intp)
    last = np.full(count, EMPTY, np.intp)
    length = np.zeros(count, np.intp)
    # every edge that tells apart is a link in the chains of both its ends
    links = 2 * (len(one) - joins)
    following = np.full(links, EMPTY, np.intp)
    partner = np.zeros(links, np.intp)
    table = np.full(1021, EMPTY, np.intp)
    keys, link = 0, 0
    for edge in order:
        here, there = root_of(parent, one[edge]), root_of(parent, other[edge])
        if here == there:
            continue
        slot = slot_of(table, key_of(here, there, count))
        if table[slot] != EMPTY:
            continue
        if edge >= joins:
            table[slot] = key_of(here, there, count)
            keys += 1
            for owner, end in ((here, there), (there, here)):
                partner[link] = end
                if first[owner] == EMPTY:
                    first[owner] = link
                else:
                    following[last[owner]] = link
                last[owner] = link
                length[owner] += 1
                link += 1
        else:
            if length[here] > length[there]:
                here, there = there, here
            # `here` has the shorter chain and becomes part of `there`
            parent[here] = there
            at = first[here]
            while at != EMPTY:
                end = root_of(parent, partner[at])
                slot = slot_of(table, key_of(there, end, count))
                if table[slot] == EMPTY:
                    table[slot] = key_of(there, end, count)
                    keys += 1
                    if 2 * keys > len(table):
                        table = larger(table)
                at = following[at]
            if first[here] != EMPTY:
                if first[there] == EMPTY:
                    first[there] = first[here]
                else:
                    following[last[there]] = first[here]
                last[there] = last[here]
                length[there] += length[here]
        if 2 * keys > len(table):
            table = larger(table)
    for place in range(count):
        parent[place] = root_of(parent, place)
    return parent


@compiled
def grow_fragments(count: int, one: Indices, other: Indices, order: Indices, sure: int) -> Indices:
    """Join pixels over sure edges, then let the fragments grow over the others.

    Parameters
    ----------
    count : number of pixels
    one, other : (edges,) flat positions
    order : edges that may join, the strongest first
    sure : so many of them make fragments; over the others a fragment takes in single pixels, and
        single pixels that met, but never another fragment

    Returns
    -------
    (count,) a root for each pixel; -1 for those that no fragment has reached
    """
    parent = np.arange(count)
    made = np.zeros(count, np.bool_)
    for nth, edge in enumerate(order):
        here, there = root_of(parent, one[edge]), root_of(parent, other[edge])
        if here == there or (nth >= sure and made[here] and made[there]):
            continue
        parent[here] = there
        made[there] = made[there] or made[here] or nth < sure
    for place in range(count):
        root = root_of(parent, place)
        parent[place] = root
    for place in range(count):
        if not made[parent[place]]:
            parent[place] = EMPTY
    return parent

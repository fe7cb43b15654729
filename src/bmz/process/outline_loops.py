"""The loop that walks around the objects of a plane, along the edges of their pixels."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.process.compiled import compiled


@compiled
def _longer(array: AnyArray, length: int) -> AnyArray:
    """Give an array with room for `length` entries, and twice as many as before."""
    more = np.empty((max(2 * len(array), length), 2), np.int32)
    for k in range(len(array)):
        more[k, 0], more[k, 1] = array[k, 0], array[k, 1]
    return more


@compiled
def traced_rings(labels: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Walk around every piece of every label and every hole in it, with the object on the right.

    Pixels that touch at a corner alone belong to two pieces, and a hole may touch the outside at a
    corner: no ring passes a corner twice.

    Parameters
    ----------
    labels : (y, x) int32, 0 background

    Returns
    -------
    points : (p, 2) int32
        x and y of the corners of all rings, one behind the other, px from the edge of the image
    rings : (r, 2) int32
        the label of each ring, and how many corners it has
    """
    height, width = labels.shape
    seen = np.zeros((height, width), np.bool_)  # upper edges that were walked along
    points, rings = np.empty((1024, 2), np.int32), np.empty((64, 2), np.int32)
    ring, touching = np.empty((1024, 2), np.int32), np.empty((64, 2), np.int32)
    filled, found = 0, 0
    for top in range(height):
        for left in range(width):
            label = labels[top, left]
            if label == 0 or seen[top, left] or (top > 0 and labels[top - 1, left] == label):
                continue
            count, touches = 0, 0
            y, x, across, down = top, left, 1, 0  # eastwards along the upper edge of a pixel
            while True:
                if across == 1:
                    seen[y, x] = True
                # the pixel ahead, and the one beside it on the left, beyond the edge
                ahead_y, ahead_x = y + down, x + across
                beside_y, beside_x = ahead_y - across, ahead_x + down
                ahead = (
                    0 <= ahead_y < height
                    and 0 <= ahead_x < width
                    and labels[ahead_y, ahead_x] == label
                )
                beside = (
                    0 <= beside_y < height
                    and 0 <= beside_x < width
                    and labels[beside_y, beside_x] == label
                )
                if ahead and not beside:
                    y, x = ahead_y, ahead_x
                else:
                    if count == len(ring):
                        ring = _longer(ring, count)
                    # the corner of the pixel between the two
                    ring[count, 0] = x + (across + down + 1) // 2
                    ring[count, 1] = y + (down - across + 1) // 2
                    if ahead:
                        y, x = beside_y, beside_x
                        across, down = down, -across
                    else:
                        if beside:
                            if touches == len(touching):
                                touching = _longer(touching, touches)
                            touching[touches, 0] = count
                            touches += 1
                        across, down = -down, across
                    count += 1
                if across == 1 and y == top and x == left:
                    break
            if filled + count > len(points):
                points = _longer(points, filled + count)
            # what lies between two passes of a corner is a ring of its own: corners wait in the
            # front of `ring` until theirs ends; a table of hashes tells where a corner waits
            held = count
            if touches > 1:
                held = 0
                room = 4
                while room < 4 * touches:
                    room *= 2
                known = np.full((room, 3), -1, np.int32)
                nth = 0
                for k in range(count):
                    corner_x, corner_y = ring[k, 0], ring[k, 1]
                    if nth < touches and touching[nth, 0] == k:
                        nth += 1
                        slot = (corner_x * 73856093 ^ corner_y * 19349663) & (room - 1)
                        while known[slot, 2] >= 0 and (
                            known[slot, 0] != corner_x or known[slot, 1] != corner_y
                        ):
                            slot = (slot + 1) & (room - 1)
                        if known[slot, 2] < 0:
                            known[slot, 0], known[slot, 1] = corner_x, corner_y
                            known[slot, 2] = held
                        else:
                            begin = known[slot, 2]
                            for j in range(begin, held):
                                points[filled, 0], points[filled, 1] = ring[j, 0], ring[j, 1]
                                filled += 1
                            if found == len(rings):
                                rings = _longer(rings, found)
                            rings[found, 0], rings[found, 1] = label, held - begin
                            found += 1
                            held = begin
                    ring[held, 0], ring[held, 1] = corner_x, corner_y
                    held += 1
            for j in range(held):
                points[filled, 0], points[filled, 1] = ring[j, 0], ring[j, 1]
                filled += 1
            if found == len(rings):
                rings = _longer(rings, found)
            rings[found, 0], rings[found, 1] = label, held
            found += 1
    return points[:filled], rings[:found]

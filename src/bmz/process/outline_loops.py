"""The loop that walks around the objects of a plane, along the edges of their pixels."""

from __future__ import annotations

from bmz.base.arrays import AnyArray
from bmz.process.compiled import compiled


@compiled
def _keep(
    label: int,
    ring: AnyArray,
    count: int,
    touching: AnyArray,
    touches: int,
    waiting: AnyArray,
    points: AnyArray,
    filled: int,
    rings: AnyArray,
    found: int,
) -> tuple[int, int]:
    """Split a walk into rings that pass no corner twice; see `trace_rings`."""
    # the part between two passes of a corner is a ring of its own: corners stay at the
    # front of `ring` until their ring ends
    held = count
    if touches > 1:
        held, nth = 0, 0
        for k in range(count):
            corner_x, corner_y = ring[k, 0], ring[k, 1]
            if nth < touches and touching[nth] == k:
                nth += 1
                begin = waiting[corner_y, corner_x]
                if begin < 0:
                    waiting[corner_y, corner_x] = held
                else:
                    for j in range(begin, held):
                        points[filled, 0], points[filled, 1] = ring[j, 0], ring[j, 1]
                        waiting[ring[j, 1], ring[j, 0]] = -1
                        filled += 1
                    rings[found, 0], rings[found, 1] = label, held - begin
                    found += 1
                    held = begin
                    waiting[corner_y, corner_x] = held
            ring[held, 0], ring[held, 1] = corner_x, corner_y
            held += 1
        for j in range(held):
            waiting[ring[j, 1], ring[j, 0]] = -1
    for j in range(held):
        points[filled, 0], points[filled, 1] = ring[j, 0], ring[j, 1]
        filled += 1
    rings[found, 0], rings[found, 1] = label, held
    found += 1
    return filled, found


@compiled
def trace_rings(
    labels: AnyArray,
    seen: AnyArray,
    waiting: AnyArray,
    ring: AnyArray,
    touching: AnyArray,
    points: AnyArray,
    rings: AnyArray,
) -> tuple[int, int]:
    """Walk around every piece of every label and every hole in it, with the object on the right.

    Pixels that touch only at a corner belong to two pieces, and a hole may touch the outside at a
    corner: no ring passes a corner twice.

    Parameters
    ----------
    labels : (y, x) int32, 0 background
    seen : (y, x) bool, all False: receives the upper edges that were traced
    waiting : (y + 1, x + 1) int32, all -1: position in `ring` of each corner of the image
    ring : (p, 2) int32, working memory for the corners of one ring
    touching : (p,) int32, working memory for the corners at which a ring touches itself
    points : (p, 2) int32, receives x and y of the corners of all rings, one after another, px
        from the edge of the image
    rings : (p, 2) int32, receives the label and the number of corners of each ring

    Returns
    -------
    int, int
        number of corners and number of rings
    """
    height, width = labels.shape
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
                # the next pixel, and the one to its left across the edge
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
                    # the corner of the pixel between the two
                    ring[count, 0] = x + (across + down + 1) // 2
                    ring[count, 1] = y + (down - across + 1) // 2
                    if ahead:
                        y, x = beside_y, beside_x
                        across, down = down, -across
                    else:
                        if beside:
                            touching[touches] = count
                            touches += 1
                        across, down = -down, across
                    count += 1
                if across == 1 and y == top and x == left:
                    break
            filled, found = _keep(
                label, ring, count, touching, touches, waiting, points, filled, rings, found
            )
    return filled, found

"""The compiled loops of `bmz.process.star_stacks`.

Rows of arrays and arrays that a loop makes take Numba seconds to compile, so that loops are given
whole arrays, with the number of the row, and room to work in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]

ON_THE_SURFACE = 1e-6
"""A voxel this near to the surface, as a share of its way from the centre, belongs to it."""


@compiled
def face_towards(
    z: float, y: float, x: float, face: int, shares: FloatArray, neighbours: Indices
) -> int:
    """Walk from `face` over its neighbours to the face through which (z, y, x) points."""
    for _ in range(len(shares)):
        worst, lowest = -1, -1e-9
        for k in range(3):
            part = shares[face, k, 0] * z + shares[face, k, 1] * y + shares[face, k, 2] * x
            if part < lowest:
                worst, lowest = k, part
        if worst < 0:
            return face
        face = neighbours[face, worst]
    return face


@compiled
def holds(
    z: float,
    y: float,
    x: float,
    face: int,
    shares: FloatArray,
    corners: Indices,
    radii: FloatArray,
    nth: int,
) -> bool:
    """Say whether polyhedron `nth` holds (z, y, x) from its centre, which points through `face`."""
    way = 0.0
    for k in range(3):
        part = shares[face, k, 0] * z + shares[face, k, 1] * y + shares[face, k, 2] * x
        way += part / radii[nth, corners[face, k]]
    return way <= 1 + ON_THE_SURFACE


@compiled
def surely_overlap(
    smaller: FloatArray,
    away: FloatArray,
    nth: int,
    directions: FloatArray,
    faces: Indices,
    solid: FloatArray,
    allowed: float,
) -> bool:
    """Say whether a lower bound of the volume that two polyhedra share is above `allowed`.

    The polyhedron M of the smaller of both distances fits into each of them around its own centre;
    moving M by `away` cuts off at most half the integral of abs(n . away) over its surface.
    """
    volume = 0.0
    for f in range(len(faces)):
        volume += solid[f] * smaller[faces[f, 0]] * smaller[faces[f, 1]] * smaller[faces[f, 2]]
    for f in range(len(faces)):
        if volume <= allowed:
            return False
        p, q, r = faces[f, 0], faces[f, 1], faces[f, 2]
        size_p, size_q, size_r = smaller[p], smaller[q], smaller[r]
        az = size_q * directions[q, 0] - size_p * directions[p, 0]
        ay = size_q * directions[q, 1] - size_p * directions[p, 1]
        ax = size_q * directions[q, 2] - size_p * directions[p, 2]
        bz = size_r * directions[r, 0] - size_p * directions[p, 0]
        by = size_r * directions[r, 1] - size_p * directions[p, 1]
        bx = size_r * directions[r, 2] - size_p * directions[p, 2]
        cut = (ay * bx - ax * by) * away[nth, 0] + (ax * bz - az * bx) * away[nth, 1]
        volume -= abs(cut + (az * by - ay * bz) * away[nth, 2]) / 4
    return volume > allowed


@compiled
def fill(
    drawn: BoolArray,
    begin: int,
    low: Indices,
    high: Indices,
    row: int,
    centres: FloatArray,
    radii: FloatArray,
    nth: int,
    corners: Indices,
    shares: FloatArray,
    neighbours: Indices,
    most: float,
    keep: bool,  # noqa: FBT001  (compiled functions have no keywords)
) -> int:
    """Count voxels of `drawn` that polyhedron `nth` holds, until a plane makes more than `most`.

    Parameters
    ----------
    drawn : (z, y, x); where it is true, voxels are looked at, and if `keep`, it stays true for
        those alone that the polyhedron holds
    low, high : (rows, 3), the limits of boxes: `drawn` begins with that of row `begin`, looked at
        is that of `row`
    """
    count, face = 0, neighbours[0, 0]
    top, left, front = low[begin, 0], low[begin, 1], low[begin, 2]
    for i in range(low[row, 0], high[row, 0]):
        z = i - centres[nth, 0]
        for j in range(low[row, 1], high[row, 1]):
            y = j - centres[nth, 1]
            for k in range(low[row, 2], high[row, 2]):
                if not drawn[i - top, j - left, k - front]:
                    continue
                x = k - centres[nth, 2]
                face = face_towards(z, y, x, face, shares, neighbours)
                inside = holds(z, y, x, face, shares, corners, radii, nth)
                count += inside
                if keep:
                    drawn[i - top, j - left, k - front] = inside
        if count > most:
            break
    return count


@compiled
def overlapping(
    best: int,
    those: Indices,
    low: Indices,
    high: Indices,
    allowed: FloatArray,
    away: FloatArray,
    drawn: BoolArray,
    smaller: FloatArray,
    overlaps: BoolArray,
    centres: FloatArray,
    radii: FloatArray,
    directions: FloatArray,
    corners: Indices,
    shares: FloatArray,
    neighbours: Indices,
    solid: FloatArray,
) -> None:
    """Set `overlaps` for those that share more than the `allowed` volume with the one at `best`.

    That is the first one; a literal 0 would compile `fill` a second time. `low` and `high` are the
    limits of what each shares with the box of the best, `drawn` that box, true everywhere, and
    `smaller` room for one distance per ray.
    """
    is_drawn = False
    for row in range(best + 1, len(those)):
        for k in range(len(smaller)):
            smaller[k] = min(radii[those[best], k], radii[those[row], k])
        overlaps[row] = surely_overlap(smaller, away, row, directions, corners, solid, allowed[row])
        if overlaps[row]:
            continue
        for nth in range(is_drawn, 2):
            # the best one is drawn when it is needed
            at = row if nth else best
            count = fill(
                drawn, best, low, high, at, centres, radii, those[at],
                corners, shares, neighbours, allowed[at], at == best,
            )  # fmt: skip
        is_drawn = True
        overlaps[row] = count > allowed[row]

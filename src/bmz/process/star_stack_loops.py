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
Faces = NDArray[np.int32]

ON_THE_SURFACE = 1e-6
"""A voxel this near to the surface, as a share of its way from the centre, belongs to it."""


@compiled
def map_directions(towards: Faces, first: Indices, shares: FloatArray, neighbours: Indices) -> None:
    """Set each entry of (z, y, x) `towards` to the face through which it is seen.

    It is seen from the centre, from which the first entry is `first` away, (3,); the way to its
    face leads over neighbours, from the face of the entry before.
    """
    face = neighbours[0, 0]
    for i in range(towards.shape[0]):
        for j in range(towards.shape[1]):
            for k in range(towards.shape[2]):
                z, y, x = i + first[0], j + first[1], k + first[2]
                for _ in range(len(shares)):
                    worst, lowest = -1, -1e-9
                    for n in range(3):
                        part = shares[face, n, 0] * z + shares[face, n, 1] * y
                        part += shares[face, n, 2] * x
                        if part < lowest:
                            worst, lowest = n, part
                    if worst < 0:
                        break
                    face = neighbours[face, worst]
                towards[i, j, k] = face


@compiled
def measure(
    volumes: FloatArray,
    low: Indices,
    high: Indices,
    centres: Indices,
    radii: FloatArray,
    directions: FloatArray,
    corners: Indices,
    solid: FloatArray,
) -> None:
    """Set the volume of each polyhedron, its lowest voxel and the one above its highest."""
    for nth in range(len(radii)):
        volume = 0.0
        for f in range(len(corners)):
            size = solid[f] * radii[nth, corners[f, 0]] * radii[nth, corners[f, 1]]
            volume += size * radii[nth, corners[f, 2]]
        volumes[nth] = volume
        for axis in range(3):
            lowest = highest = 0.0
            for ray in range(len(directions)):
                along = radii[nth, ray] * directions[ray, axis]
                lowest, highest = min(lowest, along), max(highest, along)
            low[nth, axis] = np.ceil(centres[nth, axis] + lowest - ON_THE_SURFACE)
            high[nth, axis] = np.floor(centres[nth, axis] + highest + ON_THE_SURFACE) + 1


@compiled
def find_sure(
    sure: BoolArray,
    best: int,
    which: Indices,
    allowed: FloatArray,
    smaller: FloatArray,
    centres: Indices,
    radii: FloatArray,
    directions: FloatArray,
    corners: Indices,
    solid: FloatArray,
) -> None:
    """Say of which polyhedra a lower bound of the volume shared with `best` is above `allowed`.

    The polyhedron M of the smaller of both distances fits into each of them around its own centre;
    moving M from one centre to the other cuts off at most half the integral of abs(n . way) over
    its surface.

    Parameters
    ----------
    sure : (others,), is set
    which, allowed : (others,), their numbers, and the volume that each may share
    smaller : room for one distance per ray
    centres, radii : of all polyhedra
    directions, corners, solid : of their rays and faces
    """
    for row in range(len(which)):
        other = which[row]
        for k in range(len(smaller)):
            smaller[k] = min(radii[best, k], radii[other, k])
        volume = 0.0
        for f in range(len(corners)):
            p, q, r = corners[f, 0], corners[f, 1], corners[f, 2]
            volume += solid[f] * smaller[p] * smaller[q] * smaller[r]
        z, y = centres[other, 0] - centres[best, 0], centres[other, 1] - centres[best, 1]
        x = centres[other, 2] - centres[best, 2]
        for f in range(len(corners)):
            if volume <= allowed[row]:
                break
            p, q, r = corners[f, 0], corners[f, 1], corners[f, 2]
            size_p, size_q, size_r = smaller[p], smaller[q], smaller[r]
            az = size_q * directions[q, 0] - size_p * directions[p, 0]
            ay = size_q * directions[q, 1] - size_p * directions[p, 1]
            ax = size_q * directions[q, 2] - size_p * directions[p, 2]
            bz = size_r * directions[r, 0] - size_p * directions[p, 0]
            by = size_r * directions[r, 1] - size_p * directions[p, 1]
            bx = size_r * directions[r, 2] - size_p * directions[p, 2]
            cut = (ay * bx - ax * by) * z + (ax * bz - az * bx) * y
            volume -= abs(cut + (az * by - ay * bz) * x) / 4
        sure[row] = volume > allowed[row]


@compiled
def take_slopes(
    slopes: FloatArray, radii: FloatArray, nth: int, corners: Indices, shares: FloatArray
) -> float:
    """Set the gradients of the way to each face of polyhedron `nth`; give the largest, squared.

    The way of a voxel is the sum of its parts along the three rays of the face, each over the
    length of the ray: below 1 inside. So no face is nearer than 1 / the largest gradient.
    """
    steepest = 0.0
    for f in range(len(corners)):
        p = 1 / radii[nth, corners[f, 0]]
        q = 1 / radii[nth, corners[f, 1]]
        r = 1 / radii[nth, corners[f, 2]]
        steep = 0.0
        for axis in range(3):
            way = shares[f, 0, axis] * p + shares[f, 1, axis] * q + shares[f, 2, axis] * r
            slopes[f, axis] = way
            steep += way * way
        steepest = max(steepest, steep)
    return steepest


@compiled
def hold(
    counts: Indices,
    held: BoolArray,
    drawn: BoolArray,
    which: Indices,
    low: Indices,
    high: Indices,
    middle: Indices,
    totals: Indices,
    allowed: FloatArray,
    whole: bool,  # noqa: FBT001  (compiled functions have no keywords)
    radii: FloatArray,
    slopes: FloatArray,
    towards: Faces,
    first: Indices,
    corners: Indices,
    shares: FloatArray,
) -> None:
    """Count the voxels that each polyhedron holds of those that are drawn.

    The planes nearest to its centre come first, for they hold most. Unless the `whole` is asked
    for, it ends as soon as more than `allowed` are found, or those that are left are too few.

    Parameters
    ----------
    counts : (polyhedra,), is set
    held : (z, y, x); what is looked at becomes true where the polyhedron holds it
    drawn : of the same shape; where it is true, voxels are looked at
    which : (polyhedra,), their numbers in `radii`
    low, high, middle : (polyhedra, 3), the lowest entry of `drawn` that each may hold, the one
        above the highest, and the one at its centre, which may lie beyond
    totals, allowed : (polyhedra,), how many drawn voxels there are between `low` and `high`, and
        how many it may hold
    radii : of all polyhedra
    slopes : (faces, 3) room
    towards, first : see `map_directions`; must show all between `low` and `high`
    corners, shares : of the faces
    """
    for row in range(len(which)):
        steepest = take_slopes(slopes, radii, which[row], corners, shares)
        centre = min(max(middle[row, 0], low[row, 0]), high[row, 0] - 1)
        below, above, count, left = centre, centre + 1, 0, totals[row]
        while below >= low[row, 0] or above < high[row, 0]:
            if not (whole or count <= allowed[row] < count + left):
                break
            if above >= high[row, 0] or (below >= low[row, 0] and centre - below < above - centre):
                i = below
                below -= 1
            else:
                i = above
                above += 1
            z = i - middle[row, 0]
            for j in range(low[row, 1], high[row, 1]):
                y = j - middle[row, 1]
                for k in range(low[row, 2], high[row, 2]):
                    if drawn[i, j, k]:
                        x = k - middle[row, 2]
                        inside = (z * z + y * y + x * x) * steepest <= 1
                        if not inside:
                            face = towards[z - first[0], y - first[1], x - first[2]]
                            way = slopes[face, 0] * z + slopes[face, 1] * y + slopes[face, 2] * x
                            inside = way <= 1 + ON_THE_SURFACE
                        held[i, j, k] = inside
                        count += inside
                        left -= 1
        counts[row] = count

"""The compiled loops of `bmz.process.star_stacks`.

Numba takes seconds to compile loops that slice rows or allocate arrays, so loops receive whole
arrays with a row number, and preallocated working memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]
Faces = NDArray[np.int32]

ON_THE_SURFACE = 1e-6
"""A voxel this close to the surface, relative to its distance from the centre, is inside."""


@compiled
def map_directions(towards: Faces, first: Indices, shares: FloatArray, neighbours: Indices) -> None:
    """Set each entry of (z, y, x) `towards` to the face that lies in its direction.

    The direction is that from the centre; the first entry is at the offset `first`, (3,), from it.
    The face is found by walking over neighbours from the face of the previous entry.
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
    """Set the volume of each polyhedron, its lowest voxel and the one after its highest."""
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
    """Mark polyhedra for which a lower bound of the volume shared with `best` exceeds `allowed`.

    The polyhedron M of the smaller of both distances fits into each of them around its own centre;
    moving M from one centre to the other loses at most half the integral of abs(n . offset) over
    its surface.

    Parameters
    ----------
    sure : (others,), output
    which, allowed : (others,), their numbers, and the volume that each may share
    smaller : working memory for one distance per ray
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
    """Set the gradients of the radius towards each face; return the largest, squared.

    The relative radius of a voxel of polyhedron `nth` is the sum of its components along the three
    rays of the face, each divided by the length of the ray, and is below 1 inside. So no face is
    closer than 1 / the largest gradient.
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
    """Count the drawn voxels that each polyhedron contains.

    The planes nearest to its centre come first because they contain most. Unless `whole` is true,
    counting stops once more than `allowed` are found, or too few are left to exceed it.

    Parameters
    ----------
    counts : (polyhedra,), output
    held : (z, y, x); set to true at tested voxels that the polyhedron contains
    drawn : of the same shape; true at the voxels to be tested
    which : (polyhedra,), their numbers in `radii`
    low, high, middle : (polyhedra, 3), the lowest entry of `drawn` that each may contain, the one
        after the highest, and the one at its centre, which may lie outside
    totals, allowed : (polyhedra,), how many drawn voxels there are between `low` and `high`, and
        how many each may contain
    radii : of all polyhedra
    slopes : (faces, 3) working memory
    towards, first : see `map_directions`; must cover all between `low` and `high`
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

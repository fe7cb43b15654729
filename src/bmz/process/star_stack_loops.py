"""The compiled loops of `bmz.process.star_stacks`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]

ON_THE_SURFACE = 1e-6
"""A voxel this near to the surface, as a share of its way from the centre, belongs to it."""

ROUNDING = 1e-4
"""A smaller overlap counts as none."""


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
def share_of_way(
    z: float, y: float, x: float, face: int, shares: FloatArray, corners: Indices, radii: FloatArray
) -> float:
    """Give how far (z, y, x) is on the way from the centre to the surface: 1 on it."""
    total = 0.0
    for k in range(3):
        part = shares[face, k, 0] * z + shares[face, k, 1] * y + shares[face, k, 2] * x
        total += part / radii[corners[face, k]]
    return total


@compiled
def box_of(centre: FloatArray, radii: FloatArray, directions: FloatArray) -> Indices:
    """Give the lowest and one above the highest voxel along z, y and x, (2, 3)."""
    box = np.zeros((2, 3), np.intp)
    for axis in range(3):
        low, high = 0.0, 0.0
        for k in range(len(radii)):
            along = radii[k] * directions[k, axis]
            low, high = min(low, along), max(high, along)
        box[0, axis] = int(np.ceil(centre[axis] + low - ON_THE_SURFACE))
        box[1, axis] = int(np.floor(centre[axis] + high + ON_THE_SURFACE)) + 1
    return box


@compiled
def surely_overlap(
    smaller: FloatArray,
    away: FloatArray,
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
    if volume <= allowed:
        return False
    cut = 0.0
    corner = np.zeros((3, 3))
    for f in range(len(faces)):
        for k in range(3):
            for axis in range(3):
                corner[k, axis] = smaller[faces[f, k]] * directions[faces[f, k], axis]
        az, ay, ax = (
            corner[1, 0] - corner[0, 0],
            corner[1, 1] - corner[0, 1],
            corner[1, 2] - corner[0, 2],
        )
        bz, by, bx = (
            corner[2, 0] - corner[0, 0],
            corner[2, 1] - corner[0, 1],
            corner[2, 2] - corner[0, 2],
        )
        normal_z, normal_y, normal_x = ay * bx - ax * by, ax * bz - az * bx, az * by - ay * bz
        cut += abs(normal_z * away[0] + normal_y * away[1] + normal_x * away[2]) / 4
        if volume - cut <= allowed:
            return False
    return True


@compiled
def filled(
    centre: FloatArray,
    radii: FloatArray,
    box: Indices,
    shares: FloatArray,
    corners: Indices,
    neighbours: Indices,
) -> BoolArray:
    """Draw a polyhedron into its box."""
    size = box[1] - box[0]
    inside = np.zeros((size[0], size[1], size[2]), np.bool_)
    face = 0
    for i in range(size[0]):
        z = box[0, 0] + i - centre[0]
        for j in range(size[1]):
            y = box[0, 1] + j - centre[1]
            for k in range(size[2]):
                x = box[0, 2] + k - centre[2]
                face = face_towards(z, y, x, face, shares, neighbours)
                way = share_of_way(z, y, x, face, shares, corners, radii)
                inside[i, j, k] = way <= 1 + ON_THE_SURFACE
    return inside


@compiled
def boxes_of(centres: FloatArray, radii: FloatArray, directions: FloatArray) -> Indices:
    """Give the boxes of all polyhedra as `box_of` does, (n, 2, 3)."""
    boxes = np.zeros((len(centres), 2, 3), np.intp)
    for nth in range(len(centres)):
        boxes[nth] = box_of(centres[nth], radii[nth], directions)
    return boxes


@compiled
def overlapping(
    winner: int,
    others: Indices,
    centres: FloatArray,
    radii: FloatArray,
    volumes: FloatArray,
    boxes: Indices,
    directions: FloatArray,
    corners: Indices,
    shares: FloatArray,
    neighbours: Indices,
    solid: FloatArray,
    threshold: float,
) -> BoolArray:
    """Say which of `others` share more than the allowed volume with `winner`, (others,)."""
    found = np.zeros(len(others), np.bool_)
    box = boxes[winner]
    drawn = np.zeros((0, 0, 0), np.bool_)
    away = np.zeros(3)
    smaller = np.zeros(radii.shape[1], np.float32)
    for nth, other in enumerate(others):
        allowed = max(threshold, ROUNDING) * min(volumes[winner], volumes[other])
        low, high = np.zeros(3, np.intp), np.zeros(3, np.intp)
        room = 1.0
        for axis in range(3):
            low[axis] = max(box[0, axis], boxes[other, 0, axis])
            high[axis] = min(box[1, axis], boxes[other, 1, axis])
            room *= max(high[axis] - low[axis], 0)
            away[axis] = centres[other, axis] - centres[winner, axis]
        if room <= allowed:
            continue
        for k in range(len(smaller)):
            smaller[k] = min(radii[winner, k], radii[other, k])
        if surely_overlap(smaller, away, directions, corners, solid, allowed):
            found[nth] = True
            continue
        if drawn.size == 0:
            drawn = filled(centres[winner], radii[winner], box, shares, corners, neighbours)
        shared, face = 0, 0
        for i in range(low[0], high[0]):
            for j in range(low[1], high[1]):
                for k in range(low[2], high[2]):
                    if not drawn[i - box[0, 0], j - box[0, 1], k - box[0, 2]]:
                        continue
                    z, y, x = i - centres[other, 0], j - centres[other, 1], k - centres[other, 2]
                    face = face_towards(z, y, x, face, shares, neighbours)
                    way = share_of_way(z, y, x, face, shares, corners, radii[other])
                    shared += way <= 1 + ON_THE_SURFACE
            if shared > allowed:
                break
        found[nth] = shared > allowed
    return found


@compiled
def draw(
    centres: FloatArray,
    radii: FloatArray,
    directions: FloatArray,
    corners: Indices,
    shares: FloatArray,
    neighbours: Indices,
    labels: NDArray[np.int32],
    overlap_label: int,
) -> None:
    """Draw polyhedra into `labels`, the first on top; polyhedron i becomes label i + 1."""
    face = 0
    for nth in range(len(centres)):
        box = box_of(centres[nth], radii[nth], directions)
        for axis in range(3):
            box[0, axis] = max(box[0, axis], 0)
            box[1, axis] = min(box[1, axis], labels.shape[axis])
        for i in range(box[0, 0], box[1, 0]):
            z = i - centres[nth, 0]
            for j in range(box[0, 1], box[1, 1]):
                y = j - centres[nth, 1]
                for k in range(box[0, 2], box[1, 2]):
                    taken = labels[i, j, k] != 0
                    if taken and overlap_label == 0:
                        continue
                    x = k - centres[nth, 2]
                    face = face_towards(z, y, x, face, shares, neighbours)
                    if (
                        share_of_way(z, y, x, face, shares, corners, radii[nth])
                        > 1 + ON_THE_SURFACE
                    ):
                        continue
                    labels[i, j, k] = overlap_label if taken else nth + 1

"""Star-convex polyhedra: rays, rendering and suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.star_polygons import LEAST_DISTANCE

FEWEST_RAYS_3D = 4

_KEEP = True
"""`fill` marks the voxels that it counts; compiled functions have no keywords."""


@dataclass(frozen=True)
class Rays:
    """Directions from the centre of a polyhedron, and the triangles that its corners span.

    Parameters
    ----------
    directions : (rays, 3) float64 unit vectors (z, y, x)
    faces : (faces, 3) numbers of the rays of each triangle
    shares : (faces, 3, 3) float64: times a vector, its parts along the three rays of the face;
        none is negative where the vector points through the face
    neighbours : (faces, 3) the face across from each of the three rays
    """

    directions: FloatArray
    faces: Indices
    shares: FloatArray
    neighbours: Indices

    @property
    def solid(self) -> FloatArray:
        """Volumes of the pyramids from the centre to each face at distance 1, (faces,)."""
        volumes: FloatArray = np.abs(np.linalg.det(self.directions[self.faces])) / 6
        return volumes


@lru_cache(maxsize=8)
def golden_spiral(rays: int, anisotropy: tuple[float, float, float]) -> Rays:
    """Give rays that are spread evenly, on a spiral from pole to pole with the golden angle.

    Source: Weigert et al. 2020, doi 10.1109/WACV45572.2020.9093435; ``Rays_GoldenSpiral`` of
    stardist 0.9.2.

    Parameters
    ----------
    rays : 4 or more
    anisotropy : size of the objects' axes z, y, x relative to each other, in um a px inverted:
        directions are divided by it
    """
    from scipy.spatial import ConvexHull  # here: it takes long to import

    turn = (3 - np.sqrt(5)) * np.pi * np.arange(rays)
    z = np.linspace(-1, 1, rays)
    radius = np.sqrt(np.maximum(1 - z**2, 0))
    ends = np.stack([z, radius * np.sin(turn), radius * np.cos(turn)], axis=1)
    ends /= np.asarray(anisotropy)
    faces = ConvexHull(ends).simplices.astype(np.intp)
    directions = ends / np.linalg.norm(ends, axis=1, keepdims=True)
    shares = np.linalg.inv(directions[faces].transpose(0, 2, 1))
    return Rays(directions, faces, np.ascontiguousarray(shares), _neighbours(faces))


def _neighbours(faces: Indices) -> Indices:
    across: dict[frozenset[int], list[tuple[int, int]]] = {}
    for face, corners in enumerate(faces.tolist()):
        for k in range(3):
            edge = frozenset(corner for i, corner in enumerate(corners) if i != k)
            across.setdefault(edge, []).append((face, k))
    neighbours = np.zeros(faces.shape, np.intp)
    for (one, k), (other, j) in across.values():
        neighbours[one, k], neighbours[other, j] = other, one
    return neighbours


Indices = NDArray[np.intp]

NO_OVERLAP_LABEL = 0

ON_THE_SURFACE = 1e-6
"""A voxel this near to the surface, as a share of its way from the centre, belongs to it."""

ROUNDING = 1e-4
"""A smaller overlap counts as none."""


def suppress_polyhedra(
    points: AnyArray, distances: AnyArray, scores: AnyArray, rays: Rays, threshold: float
) -> Indices:
    """Keep the best polyhedra such that no two overlap by more than `threshold`.

    In the order of falling score a polyhedron is kept unless one kept before overlaps it; overlap
    is the number of voxels in both over the volume of the smaller. Equal scores keep the order in
    which they are given. Source: Weigert et al. 2020 (doi 10.1109/WACV45572.2020.9093435), as
    stardist 0.9.2 does it.

    Parameters
    ----------
    points : (n, 3), centres (z, y, x) in px
    distances : (n, rays), px along the rays
    scores : (n,)
    rays : their directions and faces
    threshold : the largest overlap that is allowed, 0 to 1

    Returns
    -------
    (kept,) indices into `points`, best first
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    centres = np.ascontiguousarray(np.asarray(points)[order], np.float64)
    radii = _radii(np.asarray(distances)[order])
    reach = radii.max(axis=1, initial=0).astype(np.float64)
    volumes = _volumes(radii, rays)
    shelves = _shelves(centres, reach)
    polyhedra = _Polyhedra(centres, radii, volumes, boxes_of(centres, radii, rays), rays)
    alive = np.ones(len(order), np.bool_)
    winners = []
    for nth in range(len(order)):
        if not alive[nth]:
            continue
        winners.append(nth)
        alive[nth] = False
        near = _near(shelves, centres[nth], reach[nth])
        near = near[alive[near]]
        if len(near):
            alive[polyhedra.overlapping(nth, near, threshold)] = False
    return order[np.array(winners, np.intp)]


def render_polyhedra(
    points: AnyArray,
    distances: AnyArray,
    rays: Rays,
    shape: tuple[int, ...],
    overlap_label: int = NO_OVERLAP_LABEL,
) -> NDArray[np.int32]:
    """Give each voxel the number of the first polyhedron that holds its centre.

    Parameters
    ----------
    points : (n, 3), centres (z, y, x) in px, the best first; polyhedron i becomes label i + 1
    distances : (n, rays), px
    rays : their directions and faces
    shape : of the mask, px
    overlap_label : voxels that are in several polyhedra get this label; 0: that of the first

    Returns
    -------
    (z, y, x) int32; a polyhedron that others hide has no voxel
    """
    from bmz.process.star_stack_loops import fill

    labels = np.zeros(shape, np.int32)
    centres, radii = np.ascontiguousarray(points, np.float64), _radii(distances)
    low, high = np.clip(boxes_of(centres, radii, rays), 0, np.array(shape))
    for nth in range(len(centres)):
        box = tuple(slice(*side) for side in zip(low[nth], high[nth], strict=True))
        there = labels[box]
        drawn = there == 0 if overlap_label == 0 else np.ones(there.shape, np.bool_)
        fill(
            drawn, nth, low, high, nth, centres, radii, nth,
            rays.faces, rays.shares, rays.neighbours, np.inf, _KEEP,
        )  # fmt: skip
        there[drawn] = np.where(there[drawn] == 0, nth + 1, overlap_label)
    return labels


def boxes_of(centres: FloatArray, radii: FloatArray, rays: Rays) -> Indices:
    """Give the lowest and one above the highest voxel of each polyhedron, (2, n, 3)."""
    low, high = np.zeros((2, len(centres), 3))
    for ray, direction in enumerate(rays.directions):
        along = radii[:, ray, None] * direction
        np.minimum(low, along, out=low)
        np.maximum(high, along, out=high)
    lowest = np.ceil(centres + low - ON_THE_SURFACE)
    return np.stack([lowest, np.floor(centres + high + ON_THE_SURFACE) + 1]).astype(np.intp)


@dataclass(frozen=True)
class _Polyhedra:
    centres: FloatArray
    radii: FloatArray
    volumes: FloatArray
    boxes: Indices
    rays: Rays

    def overlapping(self, winner: int, others: Indices, threshold: float) -> Indices:
        """Give those of `others` that share more than the allowed volume with `winner`."""
        from bmz.process.star_stack_loops import overlapping

        those = np.concatenate([[winner], others])
        low = np.maximum(self.boxes[0, winner], self.boxes[0, those])
        high = np.minimum(self.boxes[1, winner], self.boxes[1, those])
        allowed = np.minimum(self.volumes[winner], self.volumes[those])
        allowed *= max(threshold, ROUNDING)
        meet = np.maximum(high - low, 0).prod(axis=1) > allowed
        meet[0] = True
        those, low, high, allowed = those[meet], low[meet], high[meet], allowed[meet]
        allowed[0] = np.inf
        overlaps = np.zeros(len(those), np.bool_)
        rays = self.rays
        overlapping(
            0, those, low, high, allowed, self.centres[those] - self.centres[winner],
            np.ones(high[0] - low[0], np.bool_), np.zeros(self.radii.shape[1], np.float32),
            overlaps, self.centres, self.radii,
            rays.directions, rays.faces, rays.shares, rays.neighbours, rays.solid,
        )  # fmt: skip
        shared: Indices = those[overlaps]
        return shared


def _radii(distances: AnyArray) -> FloatArray:
    at_least = np.maximum(np.asarray(distances, np.float32), np.float32(LEAST_DISTANCE))
    return np.ascontiguousarray(at_least)


def _volumes(radii: FloatArray, rays: Rays) -> FloatArray:
    volumes = np.zeros(len(radii))
    for solid, (a, b, c) in zip(rays.solid, rays.faces, strict=True):
        volumes += solid * radii[:, a].astype(np.float64) * radii[:, b] * radii[:, c]
    return volumes


Shelf = tuple[Indices, Any, float]  # the second one is a KDTree


def _shelves(centres: FloatArray, reach: FloatArray) -> Sequence[Shelf]:
    from scipy.spatial import KDTree  # here: it takes long to import

    # one tree for each doubling of the reach, so that a few giants do not widen every search
    size = np.ceil(np.log2(np.maximum(reach, 1))).astype(np.intp)
    shelves = []
    for s in np.unique(size):
        members = np.flatnonzero(size == s)
        shelves.append((members, KDTree(centres[members]), 2.0**s))
    return shelves


def _near(shelves: Sequence[Shelf], centre: FloatArray, reach: float) -> Indices:
    pairs = [
        members[tree.query_ball_point(centre, reach + side, return_sorted=True)]
        for members, tree, side in shelves
    ]
    return np.concatenate(pairs)

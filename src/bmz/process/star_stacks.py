"""Star-convex polyhedra in stacks: which to keep, and how to draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.star_polygons import LEAST_DISTANCE
from bmz.process.star_rays import Rays

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
    kept = []
    for nth in range(len(order)):
        if not alive[nth]:
            continue
        kept.append(nth)
        alive[nth] = False
        near = _near(shelves, centres[nth], reach[nth])
        near = near[alive[near]]
        if len(near):
            alive[polyhedra.overlapping(nth, near, threshold)] = False
    return order[np.array(kept, np.intp)]


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
            rays.faces, rays.shares, rays.neighbours, np.inf, True,  # noqa: FBT003
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
        found = np.zeros(len(those), np.bool_)
        rays = self.rays
        overlapping(
            0, those, low, high, allowed, self.centres[those] - self.centres[winner],
            np.ones(high[0] - low[0], np.bool_), np.zeros(self.radii.shape[1], np.float32), found,
            self.centres, self.radii,
            rays.directions, rays.faces, rays.shares, rays.neighbours, rays.solid,
        )  # fmt: skip
        shared: Indices = those[found]
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
    found = [
        members[tree.query_ball_point(centre, reach + side, return_sorted=True)]
        for members, tree, side in shelves
    ]
    return np.concatenate(found)

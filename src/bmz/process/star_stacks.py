"""Star-convex polyhedra in stacks: which to keep, and how to draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.star_polygons import LEAST_DISTANCE
from bmz.process.star_rays import Rays

Indices = NDArray[np.intp]

NO_OVERLAP_LABEL = 0


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
    from bmz.process.star_stack_loops import boxes_of, overlapping

    order = np.argsort(-np.asarray(scores), kind="stable")
    centres = np.ascontiguousarray(np.asarray(points)[order], np.float64)
    radii = _radii(np.asarray(distances)[order])
    reach = radii.max(axis=1, initial=0).astype(np.float64)
    volumes = _volumes(radii, rays)
    shelves = _shelves(centres, reach)
    shape = (*_as_arrays(rays), rays.solid)
    boxes = boxes_of(centres, radii, rays.directions)
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
            found = overlapping(nth, near, centres, radii, volumes, boxes, *shape, threshold)
            alive[near[found]] = False
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
    from bmz.process.star_stack_loops import draw

    labels = np.zeros(shape, np.int32)
    centres = np.ascontiguousarray(points, np.float64)
    draw(centres, _radii(distances), *_as_arrays(rays), labels, overlap_label)
    return labels


def _as_arrays(rays: Rays) -> tuple[FloatArray, Indices, FloatArray, Indices]:
    return rays.directions, rays.faces, rays.shares, rays.neighbours


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

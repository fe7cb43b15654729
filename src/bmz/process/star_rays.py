"""Rays of star-convex polyhedra: directions, the faces between them, and their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import FloatArray

Indices = NDArray[np.intp]

FEWEST_RAYS_3D = 4


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
    found = np.zeros(faces.shape, np.intp)
    for (one, k), (other, j) in across.values():
        found[one, k], found[other, j] = other, one
    return found

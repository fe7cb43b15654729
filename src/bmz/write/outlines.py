"""Outlines of the objects of a run as polygons along pixel edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray
from bmz.base.values import dataclass
from bmz.write.result import Region, Result

Ring: TypeAlias = NDArray[np.int32]
"""(n, 2) x and y of the corners of a closed ring in px, without repeating the first."""

Polygon: TypeAlias = list[Ring]
"""The outer ring of a piece, followed by those of its holes."""


@dataclass(frozen=True)
class Outlines:
    """The outlines of the objects in a part of a mask.

    Rings run with the object on their right, as displayed with y downwards. No ring touches
    itself, but the rings of a piece may touch each other at corners.

    Parameters
    ----------
    at : position along t and z that all objects share
    labels : (n,) labels in ascending order; an object of a stack occurs once for each plane
    z : (n,) plane of each object in a stack; None if all are in one plane
    first_rings : (n + 1,) index of the first ring of each object, and the number of rings
    first_points : (r + 1,) index of the first corner of each ring, and the number of corners
    points : (p, 2) int32, x and y of all corners, px
    areas : (r,) int64, area of each ring in px, negative for a hole
    """

    at: Mapping[str, int]
    labels: NDArray[np.int64]
    z: NDArray[np.int64] | None
    first_rings: NDArray[np.int64]
    first_points: NDArray[np.int64]
    points: Ring
    areas: NDArray[np.int64]

    def rings(self, k: int) -> list[Ring]:
        """Return the rings of the object at index k."""
        ends = self.first_points[self.first_rings[k] : self.first_rings[k + 1] + 1].tolist()
        return [self.points[i:j] for i, j in pairwise(ends)]

    def pieces(self, k: int) -> list[list[int]]:
        """Return the pieces of the object at index k: indices of the outer ring and its holes."""
        first, last = int(self.first_rings[k]), int(self.first_rings[k + 1])
        if last - first == 1:
            return [[first]]
        areas = self.areas[first:last].tolist()
        return [[first + n for n in piece] for piece in _with_holes(self.rings(k), areas)]

    def polygons(self, k: int) -> list[Polygon]:
        """Return the pieces of the object at index k, each with its holes."""
        ends = self.first_points
        return [[self.points[ends[n] : ends[n + 1]] for n in piece] for piece in self.pieces(k)]

    def place(self, k: int) -> dict[str, int]:
        """Return the position of the object at index k along those of t and z that exist."""
        return dict(self.at) | ({} if self.z is None else {"z": int(self.z[k])})


def outlines(result: Result) -> Iterator[Outlines]:
    """Trace the objects of a run.

    Yields
    ------
    Outlines
        outlines of the objects of each table of ``result.rows("table")``, in the order of its rows
    """
    for at, regions in result.regions():
        yield outlines_of(regions, at)


def traced_rings(labels: NDArray[np.int32]) -> tuple[Ring, NDArray[np.int32]]:
    """Trace the objects of a plane; see `bmz.process.outline_loops.trace_rings`.

    Returns
    -------
    points : (p, 2) int32
        x and y of the corners of all rings, concatenated, in px from the edge of the image
    rings : (r, 2) int32
        label and number of corners of each ring
    """
    from bmz.process.outline_loops import trace_rings  # here: it loads Numba

    room = _most_corners(labels)
    height, width = labels.shape
    waiting = np.full((height + 1, width + 1), -1, np.int32)
    points, rings, ring = (np.empty((room, 2), np.int32) for _ in range(3))
    touching, seen = np.empty(room, np.int32), np.zeros(labels.shape, np.bool_)
    filled, found = trace_rings(labels, seen, waiting, ring, touching, points, rings)
    return points[:filled], rings[:found]


def _most_corners(labels: NDArray[np.int32]) -> int:
    """Return an upper bound: four per pixel corner where an outline may turn, one per pixel."""
    framed = np.pad(labels, 1)
    beside = framed[:, 1:] == framed[:, :-1]
    below = framed[1:] == framed[:-1]
    straight = (beside[1:] & beside[:-1]) | (below[:, 1:] & below[:, :-1])
    return 4 * int(np.count_nonzero(~straight))


def outlines_of(regions: Iterable[Region], at: Mapping[str, int]) -> Outlines:
    """Trace the objects of regions.

    Parameters
    ----------
    regions : regions of a mask
    at : position along the axes that the regions do not have
    """
    points, labels, planes, counts, depth = [], [], [], [], 0
    for region in regions:
        stack = region.labels.reshape(-1, *region.labels.shape[-2:])
        depth = region.labels.ndim
        for z, plane in enumerate(stack):
            corners, rings = traced_rings(np.ascontiguousarray(plane, np.int32))
            points.append(corners + np.array([region.x, region.y], np.int32))
            labels.append(rings[:, 0].astype(np.int64))
            counts.append(rings[:, 1].astype(np.int64))
            planes.append(np.full(len(rings), z))
    return _sorted(at, points, labels, counts, planes if depth > len("yx") else None)


def _sorted(
    at: Mapping[str, int],
    points: Sequence[Ring],
    labels: Sequence[NDArray[np.int64]],
    counts: Sequence[NDArray[np.int64]],
    planes: Sequence[NDArray[np.int64]] | None,
) -> Outlines:
    """Sort rings by label and plane."""
    nothing = np.zeros(0, np.int64)
    owners, lengths = np.concatenate([*labels, nothing]), np.concatenate([*counts, nothing])
    z = np.zeros(len(owners), np.int64) if planes is None else np.concatenate(planes)
    corners = np.concatenate([*points, np.zeros((0, 2), np.int32)])
    order = np.lexsort((z, owners))
    starts = (np.cumsum(lengths) - lengths)[order]
    lengths, owners, z = lengths[order], owners[order], z[order]
    firsts = np.append(0, np.cumsum(lengths))
    moved = np.arange(len(corners)) + np.repeat(starts - firsts[:-1], lengths)
    corners = corners[moved]
    new = np.flatnonzero((np.diff(owners, prepend=-1) != 0) | (np.diff(z, prepend=-1) != 0))
    return Outlines(
        at,
        owners[new],
        None if planes is None else z[new],
        np.append(new, len(owners)),
        firsts,
        corners,
        _areas(corners, firsts),
    )


def _areas(points: Ring, firsts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the area of each ring; holes run in the other direction and have a negative area."""
    if not len(points):
        return np.zeros(0, np.int64)
    following = np.arange(1, len(points) + 1)
    following[firsts[1:] - 1] = firsts[:-1]
    x, y = points[:, 0].astype(np.int64), points[:, 1].astype(np.int64)
    # only vertical edges contribute to the area, and every second edge is vertical
    return np.add.reduceat(x * (y[following] - y), firsts[:-1])


def _with_holes(rings: Sequence[Ring], areas: Sequence[int]) -> list[list[int]]:
    """Assign each hole to the smallest piece around it; return indices of rings."""
    pieces = {k: [k] for k, area in enumerate(areas) if area > 0}
    holes = [k for k, area in enumerate(areas) if area < 0]
    by_area = sorted(pieces, key=lambda k: areas[k])
    for k in holes:
        inner = _inner_point(rings[k])
        around = by_area[0] if len(pieces) == 1 else _around(rings, by_area, inner)
        pieces[around].append(k)
    return list(pieces.values())


def _around(rings: Sequence[Ring], by_area: Sequence[int], point: tuple[float, float]) -> int:
    return next(piece for piece in by_area if _encloses(rings[piece], point))


def _inner_point(hole: Ring) -> tuple[float, float]:
    """Return the centre of a pixel of the object just below the lowest edge of a hole."""
    k = int(np.lexsort((hole[:, 0], -hole[:, 1]))[0])
    x, y = hole[k].tolist()
    return x + 0.5, y + 0.5


def _encloses(ring: Ring, point: tuple[float, float]) -> bool:
    """Return whether a ring encloses a point: an odd number of vertical edges lies left of it."""
    x, y = ring[:, 0], ring[:, 1]
    following = np.roll(y, -1)
    crosses: BoolArray = (np.minimum(y, following) < point[1]) & (
        np.maximum(y, following) > point[1]
    )
    return bool(np.count_nonzero(crosses & (x < point[0])) % 2)


def numbers_at(table: Mapping[str, AnyArray], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of each label in a table whose rows are sorted by label."""
    return np.searchsorted(table["label"], labels)

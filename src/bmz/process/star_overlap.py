"""The exact area that two star-convex polygons share, for many pairs at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmz.base.arrays import FloatArray
from bmz.process.star_polygons import Indices, Stars, directions, following

PAIRS_AT_ONCE = 1024
"""So that the temporary arrays (about 64 values a pair) stay in the cache."""


def overlap_areas(stars: Stars, first: Indices, second: Indices) -> FloatArray:
    """Give the exact areas of the intersections of pairs of polygons.

    With the centre b of the second polygon as apex, every edge of the first spans a triangle, and
    the signed sum of the triangles is the first polygon. Each triangle is cut with the second
    polygon, wedge by wedge between two of its rays. There the share of a point's way from b to the
    outline is a linear function, so the cut is a closed formula; nothing hangs on coinciding edges.

    Parameters
    ----------
    stars : the polygons
    first, second : (pairs,) indices into `stars`; fast when neighbours share their `second`

    Returns
    -------
    (pairs,) float32, px squared
    """
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        found[part] = _overlap_areas(stars, first[part], second[part])
    return found


def _overlap_areas(stars: Stars, first: Indices, second: Indices) -> FloatArray:
    shift = (stars.points[first] - stars.points[second]).astype(np.float32)
    y, x = directions(stars.rays)
    near = stars.distances[first]
    outline = _Outline.of(near * y, near * x, shift)
    pieces = _cut_at_rays(outline, _Apexes.of(stars, second))
    cut = pieces.span * outline.cross.ravel()[pieces.edge] * _inside(pieces.start, pieces.end)
    areas: FloatArray = np.add.reduceat(cut, pieces.polygon) / 2
    return np.maximum(areas, 0)


@dataclass(frozen=True)
class _Outline:
    """Corners (y, x) of polygons seen from an apex, and the edges to the next corner.

    `cross` is the cross product of corner and edge, twice the area of the triangle with the apex.
    """

    y: FloatArray
    x: FloatArray
    edge_y: FloatArray
    edge_x: FloatArray
    cross: FloatArray

    @classmethod
    def of(cls, arms_y: FloatArray, arms_x: FloatArray, shift: FloatArray) -> _Outline:
        # edges from the arms: seen from a far apex, corners would lose the digits of small edges
        edge_y, edge_x = following(arms_y) - arms_y, following(arms_x) - arms_x
        y, x = arms_y + shift[:, :1], arms_x + shift[:, 1:]
        return cls(y, x, edge_y, edge_x, x * edge_y - y * edge_x)


@dataclass(frozen=True)
class _Apexes:
    """The second polygons: each once, and which of them every pair has.

    `radii` holds the distances three times over, so that ray numbers need no remainder.
    """

    which: Indices
    radii: FloatArray
    gauges: FloatArray

    @classmethod
    def of(cls, stars: Stars, second: Indices) -> _Apexes:
        once, which = np.unique(second, return_inverse=True)
        own = stars.take(once)
        return cls(which, np.tile(own.distances, 3), own.gauges())


@dataclass(frozen=True)
class _Pieces:
    """Edges cut at the rays around an apex, flat, in the order of the outlines.

    Parameters
    ----------
    polygon : (pairs,) where the pieces of each pair begin
    edge : (pieces,) flat index of each piece's edge
    span : (pieces,) part of the edge, 0 to 1
    start, end : (pieces,) share of the way from the apex to the outline of the second polygon
    """

    polygon: Indices
    edge: Indices
    span: FloatArray
    start: FloatArray
    end: FloatArray


def _cut_at_rays(outline: _Outline, apexes: _Apexes) -> _Pieces:
    pairs, rays = outline.y.shape
    turn = np.arctan2(outline.y, outline.x) * np.float32(rays / (2 * np.pi))
    wedge = np.floor(turn)
    step = following(turn) - turn
    step -= rays * np.rint(step / rays)  # the shorter way round
    steps = (np.floor(turn + step) - wedge).astype(np.intp).ravel()
    wedge_of_corner = wedge.astype(np.intp)
    wedge_of_corner += rays * (wedge_of_corner < 0)
    wedge_of_corner -= rays * (wedge_of_corner >= rays)

    corner = np.cumsum(np.abs(steps) + 1) - np.abs(steps) - 1
    edge = np.repeat(np.arange(pairs * rays), np.abs(steps) + 1)
    nth = np.arange(len(edge)) - corner[edge]
    crossing = np.flatnonzero(nth)
    share, t = np.empty(len(edge), np.float32), np.zeros(len(edge), np.float32)
    share[corner] = _corner_shares(outline, apexes, wedge_of_corner).ravel()
    cut = edge[crossing]
    onward = np.where(steps[cut] > 0, nth[crossing], 1 - nth[crossing])
    ray = wedge_of_corner.ravel()[cut] + onward + rays
    share[crossing], t[crossing] = _meet(outline, apexes, cut, ray)
    return _between(share, t, corner, edge, rays)


def _between(
    share: FloatArray, t: FloatArray, corner: Indices, edge: Indices, rays: int
) -> _Pieces:
    # every piece ends where the next begins; the last one of an outline ends at its first corner
    t_end, end = np.append(t[1:], np.float32(1)), np.append(share[1:], share[:1])
    t_end[corner[1:] - 1] = 1
    polygon = corner[::rays]
    end[np.append(polygon[1:], len(share)) - 1] = share[polygon]
    return _Pieces(polygon, edge, t_end - t, share, end)


def _corner_shares(outline: _Outline, apexes: _Apexes, wedge: Indices) -> FloatArray:
    rays = wedge.shape[1]
    at = wedge + (apexes.which * rays)[:, None]
    along_y, along_x = apexes.gauges.reshape(2, -1)
    shares: FloatArray = outline.y * along_y[at] + outline.x * along_x[at]
    return shares


def _meet(
    outline: _Outline, apexes: _Apexes, edge: Indices, ray: Indices
) -> tuple[FloatArray, FloatArray]:
    # where edges meet rays: the share of the ray, and the part of the edge before it
    rays = outline.y.shape[1]
    uy, ux = np.tile(directions(rays), 3)[:, ray]
    y, x = outline.y.ravel()[edge], outline.x.ravel()[edge]
    edge_y, edge_x = outline.edge_y.ravel()[edge], outline.edge_x.ravel()[edge]
    gap = edge_y * ux - edge_x * uy
    gap[gap == 0] = 1  # an edge along the ray spans no area
    t = np.clip((x * uy - y * ux) / gap, 0, 1)
    along = (y + t * edge_y) * uy + (x + t * edge_x) * ux
    radius = apexes.radii.ravel()[np.repeat(apexes.which, rays)[edge] * (3 * rays) + ray]
    return along / radius, t


def _inside(start: FloatArray, end: FloatArray) -> FloatArray:
    # part of the triangle (apex, start, end) within share 1, where shares run linearly
    low, high = np.minimum(start, end), np.maximum(start, end)
    out = np.maximum(high, 1)
    run = high - low
    run[run == 0] = 1
    t = np.clip((1 - low) / run, 0, 1)
    across: FloatArray = t + (1 - t) / (out * np.maximum(low, 1))
    return across

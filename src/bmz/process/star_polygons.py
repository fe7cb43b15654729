"""Star-convex polygons: their areas, their overlaps, and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray
from bmz.base.values import dataclass
from bmz.process.relabel import ChannelsDiffer

Indices = NDArray[np.intp]

LEAST_DISTANCE = 1e-3
"""Minimum ray length, px; shorter and negative network outputs are raised to it."""

FEWEST_RAYS = 3


def directions(rays: int) -> FloatArray:
    """Return the unit vectors of rays: ray k points to (sin, cos) of 2 pi k / rays in (y, x).

    Returns
    -------
    (2, rays) float32, row 0 along y, row 1 along x
    """
    return _directions(rays).copy()


@cache
def _directions(rays: int) -> FloatArray:
    angle = np.arange(rays) * (2 * np.pi / rays)
    return np.stack([np.sin(angle), np.cos(angle)]).astype(np.float32)


@dataclass(frozen=True)
class Stars:
    """Star-convex polygons: corner k of polygon i lies `distances[i, k]` px from its centre.

    Parameters
    ----------
    points : (n, 2) float64, centres (y, x) in px
    distances : (n, rays) float32, px, all positive, 3 rays or more
    """

    points: FloatArray
    distances: FloatArray

    @classmethod
    def of(cls, points: AnyArray, distances: AnyArray, order: AnyArray | None = None) -> Stars:
        """Convert centres and distances of any dtype; rays shorter than 0.001 px get that length.

        `order` holds the index of the first polygon, the second and so on; None keeps the order.
        """
        own = np.array(distances, np.float32, order="C") if order is None else distances[order]
        own = np.ascontiguousarray(own, np.float32)
        np.maximum(own, np.float32(LEAST_DISTANCE), out=own)
        centres = points if order is None else points[order]
        return cls(np.asarray(centres, np.float64), own)

    def __len__(self) -> int:
        return len(self.distances)

    @property
    def rays(self) -> int:
        """The number of rays, and of corners."""
        return int(self.distances.shape[1])

    def take(self, which: AnyArray) -> Stars:
        """Return the polygons that an index, mask or slice selects."""
        return Stars(self.points[which], self.distances[which])

    def corners(self) -> FloatArray:
        """Return the corners, (n, 2, rays) float64, (y, x) in px."""
        arms: FloatArray = self.distances[:, None, :] * directions(self.rays)
        return self.points[:, :, None] + arms

    def areas(self) -> FloatArray:
        """Return the areas, (n,) float32, px squared."""
        return wedge_sine(self.rays) / 2 * _neighbour_products(self.distances)

    def reach(self) -> FloatArray:
        """Return the distance of the farthest corner from each centre, (n,) float32, px."""
        farthest = np.zeros(len(self), np.float32)
        for part, rays in self._by_rays():
            rays.max(axis=0, out=farthest[part])
        return farthest

    def gauges(self) -> FloatArray:
        """Return a linear function of (y, x) per wedge: 0 in the centre, 1 on the outline.

        Returns
        -------
        (2, n, rays) float32: its slopes along y and along x between ray k and ray k + 1, 1 / px
        """
        y, x = self.distances * directions(self.rays)[:, None]
        next_y, next_x = following(y), following(x)
        slopes: FloatArray = np.stack([x - next_x, next_y - y]) / (x * next_y - y * next_x)
        return slopes

    def boxes(self) -> FloatArray:
        """Return the bounding boxes relative to the centres.

        Returns
        -------
        (n, 4) float32: lowest y, lowest x, highest y, highest x, in px
        """
        return self.extents(np.eye(2, dtype=np.float32)).reshape(4, -1).T

    def extents(self, along: FloatArray) -> FloatArray:
        """Return how far each polygon extends from its centre along some directions.

        Parameters
        ----------
        along : (directions, 2), unit vectors (y, x)

        Returns
        -------
        (2, directions, n) float32: lowest and highest, px
        """
        sides = np.empty((2, len(along), len(self)), np.float32)
        shares = along @ directions(self.rays)
        for part, rays in self._by_rays():
            for axis, share in enumerate(shares):
                arms = rays * share[:, None]
                arms.min(axis=0, out=sides[0, axis, part])
                arms.max(axis=0, out=sides[1, axis, part])
        return sides

    def _by_rays(self) -> Iterator[tuple[slice, FloatArray]]:
        # ray by ray, for as many polygons as fit in the cache: a minimum over the rays of each
        # polygon takes four times as long
        for start in range(0, len(self), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            yield part, np.ascontiguousarray(self.distances[part].T)


def following(ring: AnyArray) -> AnyArray:
    """Return the values of the next ray, (n, rays); the first ray follows the last."""
    return np.concatenate([ring[:, 1:], ring[:, :1]], axis=1)


def ranges(start: Indices, stop: Indices) -> tuple[Indices, Indices]:
    """Return the numbers from `start` up to, not including, `stop`, one range after the other.

    Returns
    -------
    which, number : the index of each number's range, and the number

    Examples
    --------
    >>> ranges(np.array([5, 0]), np.array([7, 1]))
    (array([0, 0, 1]), array([5, 6, 0]))
    """
    length = np.maximum(stop - start, 0)
    which = np.repeat(np.arange(len(length)), length)
    before = np.cumsum(length) - length
    return which, np.arange(len(which)) - (before - start)[which]


def wedge_sine(rays: int) -> np.float32:
    """Return the sine of the angle between neighbouring rays."""
    return np.float32(np.sin(2 * np.pi / rays))


def _neighbour_products(radii: FloatArray) -> FloatArray:
    # sum over the wedges of the product of their two radii, without a rolled copy
    inner: FloatArray = np.einsum("nk,nk->n", radii[:, :-1], radii[:, 1:])
    return inner + radii[:, -1] * radii[:, 0]


def least_overlap_areas(first: FloatArray, second: FloatArray, offset: FloatArray) -> FloatArray:
    """Compute a fast lower bound of the intersection areas of pairs of polygons.

    The polygon M of the smaller of the two distances along each ray fits into both polygons around
    their respective centres. The intersection therefore contains that of M and a copy of M shifted
    by the offset d; the shift loses at most half the integral of abs(n . d) along the outline of M.

    Parameters
    ----------
    first, second : (pairs, rays) float32, distances of the two polygons, px
    offset : (pairs, 2) float32, centre of the second minus centre of the first, px

    Returns
    -------
    (pairs,) float32, px squared; may be negative
    """
    rays = first.shape[1]
    smaller = np.minimum(first, second)
    y, x = directions(rays)
    across = smaller * (offset[:, 1:] * y - offset[:, :1] * x)
    cut = np.abs(np.diff(across, axis=1)).sum(axis=1) + np.abs(across[:, -1] - across[:, 0])
    least: FloatArray = (wedge_sine(rays) * _neighbour_products(smaller) - cut) / 2
    return least


PAIRS_AT_ONCE = 2048
"""Pairs per batch, so that temporary arrays (about 64 values per pair) fit in the cache."""


def overlap_areas(stars: Stars, first: Indices, second: Indices) -> FloatArray:
    """Compute the exact areas of the intersections of pairs of polygons.

    With the centre b of the second polygon as apex, every edge of the first spans a triangle, and
    the signed sum of the triangles is the first polygon. Each triangle is intersected with the
    second polygon, wedge by wedge between two of its rays. There a point's distance from b as a
    fraction of that to the outline is linear, so the intersection has a closed formula, which also
    covers coinciding edges.

    Parameters
    ----------
    stars : the polygons
    first, second : (pairs,) indices into `stars`; fast if consecutive pairs share their `second`

    Returns
    -------
    (pairs,) float32, px squared
    """
    areas = np.empty(len(first), np.float32)
    for start in range(0, len(first), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        areas[part] = _overlap_areas(stars, first[part], second[part])
    return areas


def _overlap_areas(stars: Stars, first: Indices, second: Indices) -> FloatArray:
    points = stars.points
    shift = (points.take(first, axis=0) - points.take(second, axis=0)).astype(np.float32)
    y, x = directions(stars.rays)
    near = stars.distances.take(first, axis=0)
    outline = _Outline.of(near * y, near * x, shift)
    pieces = _cut_at_rays(outline, _Apexes.of(stars, second))
    cut = outline.cross.take(pieces.edge)
    cut *= pieces.span
    cut *= _inside(pieces.start, pieces.end)
    areas: FloatArray = np.add.reduceat(cut, pieces.polygon) / 2
    return np.maximum(areas, 0)


@dataclass(frozen=True)
class _Outline:
    """Corners (y, x) of polygons relative to an apex, and the edges to the next corner.

    `cross` is the cross product of corner and edge, twice the area of the triangle with the apex.
    """

    y: FloatArray
    x: FloatArray
    edge_y: FloatArray
    edge_x: FloatArray
    cross: FloatArray

    @classmethod
    def of(cls, arms_y: FloatArray, arms_x: FloatArray, shift: FloatArray) -> _Outline:
        # edges from the arms: relative to a far apex, corners would lose the digits of small edges
        edge_y, edge_x = following(arms_y) - arms_y, following(arms_x) - arms_x
        y, x = arms_y + shift[:, :1], arms_x + shift[:, 1:]
        return cls(y, x, edge_y, edge_x, x * edge_y - y * edge_x)


@dataclass(frozen=True)
class _Apexes:
    """The second polygons, one per run of pairs that share it, and the run of every pair.

    `radii` repeats the distances three times, so that ray numbers need no remainder.
    """

    which: Indices
    radii: FloatArray
    gauges: FloatArray

    @classmethod
    def of(cls, stars: Stars, second: Indices) -> _Apexes:
        first = np.ones(len(second), np.bool_)
        np.not_equal(second[1:], second[:-1], out=first[1:])
        own = stars.take(second[first])
        return cls(np.cumsum(first) - 1, np.tile(own.distances, 3), own.gauges())


@dataclass(frozen=True)
class _Pieces:
    """Edges cut at the rays around an apex, flat, in the order of the outlines.

    Parameters
    ----------
    polygon : (pairs,) where the pieces of each pair begin
    edge : (pieces,) the edge to which each belongs
    span : (pieces,) fraction of the edge, 0 to 1
    start, end : (pieces,) distance from the apex as a fraction of that to the second outline
    """

    polygon: Indices
    edge: Indices
    span: FloatArray
    start: FloatArray
    end: FloatArray


def _cut_at_rays(outline: _Outline, apexes: _Apexes) -> _Pieces:
    rays = outline.y.shape[1]
    turn = np.arctan2(outline.y, outline.x) * np.float32(rays / (2 * np.pi))
    wedge = np.floor(turn)
    step = following(turn) - turn
    step -= rays * np.rint(step / rays)  # the shorter way round
    steps = (np.floor(turn + step) - wedge).astype(np.intp)
    wedge_of_corner = wedge.astype(np.intp)
    wedge_of_corner += rays * (wedge_of_corner < 0)
    wedge_of_corner -= rays * (wedge_of_corner >= rays)

    count = np.abs(steps).ravel() + 1
    last = np.cumsum(count)
    corner = last - count
    begins = np.zeros(last[-1], np.bool_)
    begins[corner] = True
    edge = np.cumsum(begins) - 1
    crossing = (~begins).nonzero()[0]
    share, t = np.empty(len(begins), np.float32), np.zeros(len(begins), np.float32)
    share[corner] = _corner_shares(outline, apexes, wedge_of_corner).ravel()
    # upwards the nth ray after the corner's wedge is crossed, downwards the nth before the next
    way = np.sign(steps).ravel()
    before = wedge_of_corner.ravel() + (way < 0) - way * corner
    cut = edge.take(crossing)
    ray = way.take(cut)
    ray *= crossing
    ray += before.take(cut)
    ray += rays
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
    t_end -= t
    return _Pieces(polygon, edge, t_end, share, end)


def _corner_shares(outline: _Outline, apexes: _Apexes, wedge: Indices) -> FloatArray:
    rays = wedge.shape[1]
    at = wedge + (apexes.which * rays)[:, None]
    along_y, along_x = apexes.gauges.reshape(2, -1)
    shares: FloatArray = outline.y * along_y.take(at) + outline.x * along_x.take(at)
    return shares


def _meet(
    outline: _Outline, apexes: _Apexes, edge: Indices, ray: Indices
) -> tuple[FloatArray, FloatArray]:
    # where edges meet rays: the fraction of the ray, and the fraction of the edge before it
    rays = outline.y.shape[1]
    uy, ux = (along.take(ray) for along in np.tile(directions(rays), 3))
    y, x = outline.y.take(edge), outline.x.take(edge)
    edge_y, edge_x = outline.edge_y.take(edge), outline.edge_x.take(edge)
    gap = edge_y * ux - edge_x * uy
    gap[gap == 0] = 1  # an edge along the ray spans no area
    t = _clipped((x * uy - y * ux) / gap)
    along = (y + t * edge_y) * uy + (x + t * edge_x) * ux
    first_ray = np.broadcast_to(apexes.which[:, None] * (3 * rays), outline.y.shape)
    radius = apexes.radii.take(first_ray.take(edge) + ray)
    return along / radius, t


def _clipped(share: FloatArray) -> FloatArray:
    # clipped to 0 to 1 in place: np.clip takes twice as long because of its overhead
    np.maximum(share, 0, out=share)
    return np.minimum(share, 1, out=share)


def _inside(start: FloatArray, end: FloatArray) -> FloatArray:
    # fraction of the triangle (apex, start, end) where the linear fraction is at most 1
    low, high = np.minimum(start, end), np.maximum(start, end)
    run = high - low
    run[run == 0] = 1
    within = 1 - low
    within /= run
    within = _clipped(within)
    high *= np.maximum(low, 1, out=low)
    beyond = np.subtract(1, within, out=low)
    beyond /= np.maximum(high, 1, out=high)
    within += beyond
    return within


PIXELS_AT_ONCE = 1 << 17
"""Pixels in rows of bounding boxes that are tested together, so that they fit in the cache."""

ON_THE_EDGE = np.float32(1e-6)
"""A pixel this close to the outline, relative to its distance from the centre, is inside."""


def require_rays(output: AnyArray, fewest: int) -> None:
    """Raise an error for an output with fewer rays than an outline needs.

    Raises
    ------
    ChannelsDiffer
    """
    if len(output) < 1 + fewest:
        expected = f"a probability and at least {fewest} distances"
        raise ChannelsDiffer("stardist", expected, len(output))


def render_polygons(
    points: AnyArray, distances: AnyArray, scores: AnyArray, shape: tuple[int, int]
) -> NDArray[np.int32]:
    """Label each pixel with the best polygon that contains its centre.

    Polygon i becomes label i + 1; of two with the same score the later one wins. A pixel whose
    centre lies on the outline belongs to the polygon, as in ``skimage.draw.polygon``.

    Parameters
    ----------
    points : (n, 2), centres (y, x) in px; they may lie outside the mask
    distances : (n, rays), px
    scores : (n,)
    shape : height and width of the mask, px

    Returns
    -------
    (y, x) int32; a polygon that others hide has no pixel
    """
    labels = np.zeros(shape, np.int32)
    order = np.argsort(np.asarray(scores), kind="stable")
    stars = Stars.of(np.asarray(points), np.asarray(distances), order)
    gauges, number = stars.gauges(), (order + 1).astype(np.int32)
    low, high = _windows(stars, shape)
    star, y = ranges(low[:, 0], high[:, 0])
    for part in _parts(high[star, 1] - low[star, 1]):
        line, x = ranges(low[star[part], 1], high[star[part], 1])
        s, row = star[part][line], y[part][line]
        inside = np.flatnonzero(_inside_sectors(stars, gauges, s, row, x))
        # where polygons overlap, the last one written, which is the best, stays
        row *= shape[1]
        row += x
        labels.reshape(-1)[row.take(inside)] = number.take(s.take(inside))
    return labels


def _parts(widths: Indices) -> Iterator[slice]:
    # runs of rows with this many pixels, or a single longer row
    pixels = np.cumsum(widths)
    start = 0
    while start < len(widths):
        before = pixels[start] - widths[start]
        stop = int(np.searchsorted(pixels, before + PIXELS_AT_ONCE, side="right"))
        yield slice(start, max(stop, start + 1))
        start = max(stop, start + 1)


def _windows(stars: Stars, shape: tuple[int, int]) -> tuple[Indices, Indices]:
    box = stars.boxes().reshape(-1, 2, 2) + stars.points[:, None]
    slack = float(ON_THE_EDGE) * stars.reach()[:, None]
    low = np.clip(np.ceil(box[:, 0] - slack), 0, shape).astype(np.intp)
    high = np.clip(np.floor(box[:, 1] + slack) + 1, 0, shape).astype(np.intp)
    return low, np.maximum(high, low)


def _inside_sectors(
    stars: Stars, gauges: FloatArray, star: Indices, y: Indices, x: Indices
) -> BoolArray:
    centre_y, centre_x = stars.points.T
    off_y = (y - centre_y.take(star)).astype(np.float32)
    off_x = (x - centre_x.take(star)).astype(np.float32)
    turn = np.arctan2(off_y, off_x) * np.float32(stars.rays / (2 * np.pi))
    wedge = np.floor(turn).astype(np.intp)
    wedge += stars.rays * (wedge < 0)
    wedge += stars.rays * star
    along_y, along_x = gauges
    share = off_y * along_y.take(wedge) + off_x * along_x.take(wedge)
    inside: BoolArray = share <= 1 + ON_THE_EDGE
    return inside

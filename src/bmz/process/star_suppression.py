"""Non-maximum suppression of star-convex polygons: of overlapping ones, the best is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, stable_order
from bmz.base.values import dataclass
from bmz.process.star_polygons import Indices, Stars, least_overlap_areas, overlap_areas, ranges

MOST_AT_ONCE = 256
"""Largest number of candidates that are compared with each other in one round."""

ROUNDING = 1e-4
"""Smaller overlaps are ignored: areas are sums of float32, and sizes may differ 10,000-fold."""

DIAGONAL = np.float32(0.5**0.5)

SIDES = np.array([[1, 0], [0, 1], [DIAGONAL, DIAGONAL], [DIAGONAL, -DIAGONAL]], np.float32)
"""Directions (y, x) of the sides of two boxes around each polygon: upright, and diagonal."""

SLACK = np.float32(1e-4)
"""Relative error of the area of a box, which is the difference of large numbers."""

FEW = 512
"""Pairs of the last candidates that are decided at once: another round would cost more."""

PAIRS_AT_ONCE = 4096
"""Pairs whose overlap is bounded together, so that their distances fit in the cache."""


def non_maximum_suppression(
    points: AnyArray,
    distances: AnyArray,
    scores: AnyArray,
    threshold: float,
    chosen_before: int = 0,
) -> Indices:
    """Keep the best polygons such that no two overlap by more than `threshold`.

    In the order of falling score a polygon is kept unless one kept before overlaps it; overlap is
    the area of the intersection over the area of the smaller polygon. Equal scores keep the order
    in which they are given. Source: Schmidt et al. 2018 (doi 10.1007/978-3-030-00934-2_30), as the
    reference implementation stardist 0.9.2 does it; here the corners are not cut to whole pixels.

    Parameters
    ----------
    points : (n, 2), centres (y, x) in px
    distances : (n, rays), px along the rays that `star_polygons.directions` describes
    scores : (n,)
    threshold : the largest overlap that is allowed, 0 to 1
    chosen_before : this many at the start were kept before, and are better than all others

    Returns
    -------
    (kept,) indices into `points`, best first
    """
    return Crowd.ranked(points, distances, scores).chosen(threshold, chosen_before)


@dataclass(frozen=True)
class Crowd:
    """Polygons and their ranking, with the measures that the quick tests need.

    They are stored cell by cell, so that polygons that are compared are also close in memory.

    Parameters
    ----------
    order : (n,) indices of the polygons, best first
    given : (n,) the original index of each
    stars, areas, reach : the polygons, px, px squared and px
    upright : (n, 8) float32, centre of each polygon along y and x, its extent from there
        backwards along y and x, and forwards, px; its area, px squared; and 0
    sides : (n, 8) float32, extent of each backwards along the `SIDES`, and forwards, px
    shelves : to find neighbours
    """

    order: Indices
    given: Indices
    stars: Stars
    areas: FloatArray
    reach: FloatArray
    upright: FloatArray
    sides: FloatArray
    shelves: Sequence[_Shelf]

    @classmethod
    def ranked(cls, points: AnyArray, distances: AnyArray, scores: AnyArray) -> Crowd:
        """Rank polygons by falling score; see `non_maximum_suppression`."""
        points, distances = np.asarray(points), np.asarray(distances)
        shelves = _shelves(points, Stars(points, distances).reach())
        given = np.concatenate([np.empty(0, np.intp), *(shelf.members for shelf in shelves)])
        position = np.empty_like(given)
        position[given] = np.arange(len(given))
        order = position[stable_order(-np.ascontiguousarray(scores))]
        return cls.of(Stars.of(points, distances, given), order, given)

    @classmethod
    def of(cls, stars: Stars, order: Indices, given: Indices) -> Crowd:
        """Measure ranked polygons."""
        reach, areas = stars.reach(), stars.areas()
        sides = np.ascontiguousarray(stars.extents(SIDES).reshape(2 * len(SIDES), -1).T)
        upright = np.zeros((len(stars), 8), np.float32)
        upright[:, :2], upright[:, 2:4], upright[:, 4:6] = stars.points, sides[:, :2], sides[:, 4:6]
        upright[:, 6] = areas
        shelves = _shelves(stars.points, reach)
        return cls(order, given, stars, areas, reach, upright, sides, shelves)

    def chosen(self, threshold: float, chosen_before: int = 0) -> Indices:
        """Keep the best polygons that hardly overlap; see `non_maximum_suppression`."""
        first, waiting = self.order[:chosen_before], self.order[chosen_before:]
        alive = np.ones(len(self.order), np.bool_)
        alive[first] = False
        for start in range(0, chosen_before, MOST_AT_ONCE):
            alive[self.suppressed_by(first[start : start + MOST_AT_ONCE], alive, threshold)] = False
        waiting, chosen, at_once = waiting[alive[waiting]], [first], MOST_AT_ONCE
        while len(waiting):
            front = waiting[:at_once]
            better, worse = self.disputes(front, threshold)
            if len(front) == len(waiting) and len(better) <= FEW:
                chosen.append(front[self.decided(front, better, worse, threshold)])
                break
            disputed = np.zeros(len(front), np.bool_)
            disputed[worse] = True
            winners = front[~disputed]
            alive[winners] = False
            alive[self.suppressed_by(winners, alive, threshold)] = False
            chosen.append(winners)
            waiting = waiting[alive[waiting]]
            at_once = min(max(8 * len(winners), MOST_AT_ONCE // 8), MOST_AT_ONCE)
        kept = np.zeros(len(self.order), np.bool_)
        kept[np.concatenate(chosen)] = True
        best_first: Indices = self.given[self.order[kept.take(self.order)]]
        return best_first

    def disputes(self, front: Indices, threshold: float) -> tuple[Indices, Indices]:
        """Return pairs (better, worse) of the candidates `front` that may overlap too much.

        Returns
        -------
        (pairs,) and (pairs,), positions in `front`
        """
        (y, x), reach = self.upright[front, :2].T, self.reach[front]
        apart = np.square(y[:, None] - y)
        apart += np.square(x[:, None] - x)
        pair = np.flatnonzero(apart < np.square(reach[:, None] + reach))
        worse = pair // len(front)
        better = pair - worse * len(front)
        ordered = (better < worse).nonzero()[0]
        better, worse = better.take(ordered), worse.take(ordered)
        near = self._near_enough(front.take(better), front.take(worse), _least(threshold))
        return better.take(near), worse.take(near)

    def decided(
        self, front: Indices, better: Indices, worse: Indices, threshold: float
    ) -> BoolArray:
        """Return which of the candidates `front` stay, given all `disputes` among them."""
        beyond = self._overlapping(front.take(better), front.take(worse), threshold)
        better, worse = better[beyond], worse[beyond]
        stays = [True] * len(front)
        for pair in np.argsort(better, kind="stable").tolist():
            if stays[better[pair]]:
                stays[worse[pair]] = False
        return np.array(stays)

    def suppressed_by(self, winners: Indices, alive: BoolArray, threshold: float) -> Indices:
        """Return the living candidates that overlap one of `winners` by more than `threshold`."""
        pairs = [shelf.near(winners, self.stars.points, self.reach) for shelf in self.shelves]
        winner, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
        here = alive.take(other).nonzero()[0]
        winner, other = winner.take(here), other.take(here)
        near = self._near_enough(winner, other, _least(threshold))
        winner, other = winner.take(near), other.take(near)
        losers: Indices = other[self._overlapping(winner, other, threshold)]
        return losers

    def _overlapping(self, winner: Indices, other: Indices, threshold: float) -> BoolArray:
        """Return which pairs overlap by more than `threshold`."""
        points = self.stars.points
        offset = (points.take(other, axis=0) - points.take(winner, axis=0)).astype(np.float32)
        allowed = self._allowed(winner, other, _least(threshold))
        beyond = np.empty(len(winner), np.bool_)
        for start in range(0, len(winner), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            beyond[part] = self._beyond(winner[part], other[part], offset[part], allowed[part])
        return beyond

    def _near_enough(self, winner: Indices, other: Indices, least: np.float32) -> Indices:
        """Return the pairs whose boxes overlap more than allowed; upright boxes rule out most."""
        starts = range(0, max(len(winner), 1), PAIRS_AT_ONCE)
        parts = [slice(start, start + PAIRS_AT_ONCE) for start in starts]
        near = np.concatenate(
            [part.start + self._boxes_share(winner[part], other[part], least) for part in parts]
        )
        winner, other = winner.take(near), other.take(near)
        low, high = self._both(winner, other, np.maximum, np.minimum)
        room = most_in_common(low, high) > self._allowed(winner, other, least)
        near_enough: Indices = near[room]
        return near_enough

    def _boxes_share(self, winner: Indices, other: Indices, least: np.float32) -> Indices:
        one, two = _columns(self.upright, winner), _columns(self.upright, other)
        away = two[:2] - one[:2]
        shared = np.minimum(one[4:6], two[4:6] + away)
        shared -= np.maximum(one[2:4], two[2:4] + away)
        height, width = np.maximum(shared, 0, out=shared)
        more: Indices = (height * width > least * np.minimum(one[6], two[6])).nonzero()[0]
        return more

    def _allowed(self, winner: Indices, other: Indices, least: np.float32) -> FloatArray:
        allowed: FloatArray = least * np.minimum(self.areas.take(winner), self.areas.take(other))
        return allowed

    def _both(
        self, winner: Indices, other: Indices, of_low: np.ufunc, of_high: np.ufunc
    ) -> tuple[FloatArray, FloatArray]:
        """Return the joint sides of each pair of boxes, (4, pairs), from the winner's centre."""
        away = np.empty((len(SIDES), len(winner)), np.float32)
        one, two = _columns(self.upright, winner), _columns(self.upright, other)
        np.subtract(two[:2], one[:2], out=away[:2])
        np.add(away[0], away[1], out=away[2])
        np.subtract(away[0], away[1], out=away[3])
        away[2:] *= DIAGONAL
        both, others = _columns(self.sides, winner), _columns(self.sides, other)
        (low, high), (other_low, other_high) = np.split(both, 2), np.split(others, 2)
        other_low += away
        other_high += away
        return of_low(low, other_low, out=low), of_high(high, other_high, out=high)

    def _beyond(
        self, winner: Indices, other: Indices, offset: FloatArray, allowed: FloatArray
    ) -> BoolArray:
        # cheapest first: the sum of both areas less the area that they cover is shared
        whole = most_covered(*self._both(winner, other, np.minimum, np.maximum))
        beyond: BoolArray = self.areas.take(winner) + self.areas.take(other) - whole > allowed
        for areas in (self._least_shared, self._shared):
            rest = (~beyond).nonzero()[0]
            beyond[rest] = areas(
                winner.take(rest), other.take(rest), offset.take(rest, axis=0)
            ) > allowed.take(rest)
        return beyond

    def _least_shared(self, winner: Indices, other: Indices, offset: FloatArray) -> FloatArray:
        distances = self.stars.distances
        return least_overlap_areas(
            distances.take(winner, axis=0), distances.take(other, axis=0), offset
        )

    def _shared(self, winner: Indices, other: Indices, _offset: FloatArray) -> FloatArray:
        return overlap_areas(self.stars, other, winner)


def most_in_common(low: FloatArray, high: FloatArray) -> FloatArray:
    """Compute an upper bound of the area common to an upright and a diagonal box.

    The diagonal box cuts a triangle off each corner of the upright one. Triangles at opposite
    corners do not overlap, so the larger pair is subtracted.

    Parameters
    ----------
    low, high : (4, boxes) float32, where both boxes begin and end along the `SIDES`, px

    Returns
    -------
    (boxes,) float32, px squared; slightly too large; undefined where upright boxes do not meet
    """
    upright, deep = high[:2] - low[:2], _depths(low, high)
    deepest = upright.min(axis=0) * DIAGONAL
    cut = np.square(np.minimum(np.maximum(deep, 0), deepest))
    area: FloatArray = (1 + SLACK) * upright[0] * upright[1]
    area -= np.maximum(cut[0] + cut[1], cut[2] + cut[3])
    return area


def most_covered(low: FloatArray, high: FloatArray) -> FloatArray:
    """Compute an upper bound of the area of a shape that touches all sides of both boxes.

    Parameters
    ----------
    low, high : (4, boxes) float32, as in `most_in_common`

    Returns
    -------
    (boxes,) float32, px squared; slightly too large
    """
    height, width = high[:2] - low[:2]
    area: FloatArray = (1 + SLACK) * height * width - np.square(_depths(low, high)).sum(axis=0)
    return area


def _depths(low: FloatArray, high: FloatArray) -> FloatArray:
    # how far the corners of the upright box protrude from the other; two opposite ones first
    deep = np.empty_like(low)
    np.add(high[0], high[1], out=deep[0])
    np.add(low[0], low[1], out=deep[1])
    np.subtract(high[0], low[1], out=deep[2])
    np.subtract(low[0], high[1], out=deep[3])
    deep *= DIAGONAL
    deep[::2] -= high[2:]
    np.subtract(low[2:], deep[1::2], out=deep[1::2])
    return deep


def _columns(rows: FloatArray, which: Indices) -> FloatArray:
    # (columns, pairs) of some rows, which are read whole because each fits in one cache line
    return np.ascontiguousarray(rows.take(which, axis=0).T)


def _least(threshold: float) -> np.float32:
    return np.float32(max(threshold, ROUNDING))


def _shelves(points: FloatArray, reach: FloatArray) -> list[_Shelf]:
    # one shelf per doubling of the reach, so that a few giants do not widen every search
    size = np.ceil(np.log2(np.maximum(reach, 1))).astype(np.intp)
    return [_Shelf.of(np.flatnonzero(size == s), points, 2.0**s) for s in np.unique(size)]


@dataclass(frozen=True)
class _Shelf:
    """Candidates of similar size, sorted into square cells.

    Parameters
    ----------
    members : indices of the candidates, cell by cell in raster order of the cells
    starts : (cells + 1,) where each cell begins in `members`
    origin : (2,) corner of the first cell, px
    side : side of a cell and the largest reach of a member, px
    shape : number of cells along y and x
    """

    members: Indices
    starts: Indices
    origin: FloatArray
    side: float
    shape: tuple[int, int]

    @classmethod
    def of(cls, members: Indices, points: FloatArray, side: float) -> _Shelf:
        origin = points[members].min(axis=0)
        cell = ((points[members] - origin) // side).astype(np.intp)
        rows, columns = (int(most) + 1 for most in cell.max(axis=0))
        flat = cell[:, 0] * columns + cell[:, 1]
        starts = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=rows * columns))])
        by_cell = members[np.argsort(flat, kind="stable")]
        return cls(by_cell, starts, origin, side, (rows, columns))

    def near(
        self, winners: Indices, points: FloatArray, reach: FloatArray
    ) -> tuple[Indices, Indices]:
        """Return pairs (winner, member) of all that can touch, and some that cannot."""
        if len(winners) * len(self.members) <= FEW:
            return winners.repeat(len(self.members)), np.tile(self.members, len(winners))
        centre, wide = (points[winners] - self.origin).T, reach[winners] + self.side
        low, high = ((centre + way) // self.side for way in (-wide, wide))
        (top, left), (bottom, right) = (
            np.minimum(np.maximum(side, 0), np.array(self.shape)[:, None]).astype(np.intp)
            for side in (low, high + 1)
        )
        which, row = ranges(top, bottom)
        first = row * self.shape[1]
        start, stop = first + left.take(which), first + right.take(which)
        begin = self.starts.take(start)
        strip, place = ranges(begin, self.starts.take(np.maximum(stop, start)))
        return winners.take(which.take(strip)), self.members.take(place)

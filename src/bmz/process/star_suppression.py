"""Non-maximum suppression of star-convex polygons: the best of those that overlap is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, stable_order
from bmz.base.values import dataclass
from bmz.process.star_polygons import Indices, Stars, least_overlap_areas, overlap_areas, ranges

MOST_AT_ONCE = 256
"""Largest number of candidates that are compared with each other in one round."""

ROUNDING = 1e-4
"""A smaller overlap counts as none: areas are sums of float32, and sizes may differ 10,000-fold."""

BOXES = np.array([[[1, 0], [0, 1]], [[0.5**0.5, 0.5**0.5], [0.5**0.5, -(0.5**0.5)]]], np.float32)
"""Directions (y, x) of the sides of two boxes around each polygon: upright, and on a corner."""

PAIRS_AT_ONCE = 4096
"""Pairs whose overlap is bounded together, so that their distances stay in the cache."""


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
    chosen_before : so many of the first ones were kept before, and are better than all others

    Returns
    -------
    (kept,) indices into `points`, best first
    """
    return Crowd.ranked(points, distances, scores).chosen(threshold, chosen_before)


@dataclass(frozen=True)
class Crowd:
    """Polygons in the order of falling score, with what the quick tests need of them.

    Parameters
    ----------
    order : (n,) the place that each had before
    stars, areas, reach : the polygons, px, px squared and px
    centres : (n,) float32, y and x, px
    boxes : of both sides of each of the `BOXES` its direction, and (n,) how far each polygon
        reaches from its centre, backwards and forwards, px
    shelves : to find neighbours
    """

    order: Indices
    stars: Stars
    areas: FloatArray
    reach: FloatArray
    centres: tuple[FloatArray, FloatArray]
    boxes: Sequence[Sequence[tuple[Sequence[float], FloatArray, FloatArray]]]
    shelves: Sequence[_Shelf]

    @classmethod
    def ranked(cls, points: AnyArray, distances: AnyArray, scores: AnyArray) -> Crowd:
        """Put polygons into their order; see `non_maximum_suppression`."""
        order = stable_order(-np.ascontiguousarray(scores))
        return cls.of(Stars.of(np.asarray(points), np.asarray(distances), order), order)

    @classmethod
    def of(cls, stars: Stars, order: Indices) -> Crowd:
        """Measure polygons that are in their order."""
        reach, (low, high) = stars.reach(), stars.extents(BOXES.reshape(-1, 2))
        sides = list(zip(BOXES.reshape(-1, 2).tolist(), low, high, strict=True))
        y, x = stars.points.T.astype(np.float32)
        shelves = _shelves(stars.points, reach)
        return cls(order, stars, stars.areas(), reach, (y, x), (sides[:2], sides[2:]), shelves)

    def chosen(self, threshold: float, chosen_before: int = 0) -> Indices:
        """Keep the best polygons that hardly overlap; see `non_maximum_suppression`."""
        order = self.order
        first = np.arange(chosen_before)  # no score is equal to those of the others
        waiting, alive = np.arange(chosen_before, len(order)), np.ones(len(order), np.bool_)
        alive[first] = False
        for start in range(0, chosen_before, MOST_AT_ONCE):
            alive[self.suppressed_by(first[start : start + MOST_AT_ONCE], alive, threshold)] = False
        waiting, chosen, at_once = waiting[alive[waiting]], [first], MOST_AT_ONCE
        while len(waiting):
            winners = self.undisputed(waiting[:at_once], threshold)
            alive[winners] = False
            alive[self.suppressed_by(winners, alive, threshold)] = False
            chosen.append(winners)
            waiting = waiting[alive[waiting]]
            at_once = min(max(8 * len(winners), MOST_AT_ONCE // 8), MOST_AT_ONCE)
        return order[np.sort(np.concatenate(chosen))]

    def undisputed(self, front: Indices, threshold: float) -> Indices:
        """Give those of the best candidates `front` that no better one can suppress: they stay."""
        y, x, reach = (of_each[front] for of_each in (*self.centres, self.reach))
        apart = np.square(y[:, None] - y)
        apart += np.square(x[:, None] - x)
        worse, better = np.divmod(np.flatnonzero(apart < np.square(reach[:, None] + reach)), len(y))
        ordered = better < worse
        worse, better = worse[ordered], better[ordered]
        disputed = np.zeros(len(front), np.bool_)
        disputed[worse[self._near_enough(front[better], front[worse], _least(threshold))]] = True
        winners: Indices = front[~disputed]
        return winners

    def suppressed_by(self, winners: Indices, alive: BoolArray, threshold: float) -> Indices:
        """Give the living candidates that overlap one of `winners` by more than `threshold`."""
        pairs = [shelf.near(winners, self.stars.points, self.reach) for shelf in self.shelves]
        winner, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
        here = alive[other]
        winner, other = winner[here], other[here]
        losers: Indices = other[self._overlapping(winner, other, threshold)]
        return losers

    def _overlapping(self, winner: Indices, other: Indices, threshold: float) -> Indices:
        least = _least(threshold)
        near = self._near_enough(winner, other, least)
        winner, other = winner[near], other[near]
        offset = (self.stars.points[other] - self.stars.points[winner]).astype(np.float32)
        allowed = least * np.minimum(self.areas[winner], self.areas[other])
        overlapping = [np.zeros(0, np.intp)]
        for start in range(0, len(near), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            beyond = self._beyond(winner[part], other[part], offset[part], allowed[part])
            overlapping.append(near[part][beyond])
        return np.concatenate(overlapping)

    def _near_enough(self, winner: Indices, other: Indices, least: np.float32) -> Indices:
        """Give the pairs whose boxes share more than is allowed, side by side, as most do not."""
        left = np.arange(len(winner))
        for box in self.boxes:
            shared = np.ones(len(left), np.float32)
            for towards, low, high in box:
                away = self._away(winner, other, towards)
                side = np.minimum(high[winner], high[other] + away)
                side -= np.maximum(low[winner], low[other] + away)
                meets = side > 0
                shared = shared[meets] * side[meets]
                left, winner, other = left[meets], winner[meets], other[meets]
            allowed = least * np.minimum(self.areas[winner], self.areas[other])
            near = shared > allowed
            left, winner, other = left[near], winner[near], other[near]
        return left

    def _away(self, winner: Indices, other: Indices, towards: Sequence[float]) -> FloatArray:
        """Give how far the second of each pair lies from the first along a direction (y, x)."""
        parts = [
            (along[other] - along[winner]) * np.float32(share)
            for along, share in zip(self.centres, towards, strict=True)
            if share
        ]
        away: FloatArray = sum(parts[1:], start=parts[0])
        return away

    def _beyond(
        self, winner: Indices, other: Indices, offset: FloatArray, allowed: FloatArray
    ) -> BoolArray:
        distances = self.stars.distances
        beyond: BoolArray = (
            least_overlap_areas(distances[winner], distances[other], offset) > allowed
        )
        rest = np.flatnonzero(~beyond)
        beyond[rest] = overlap_areas(self.stars, other[rest], winner[rest]) > allowed[rest]
        return beyond


def _least(threshold: float) -> np.float32:
    return np.float32(max(threshold, ROUNDING))


def _shelves(points: FloatArray, reach: FloatArray) -> list[_Shelf]:
    # one shelf for each doubling of the reach, so that a few giants do not widen every search
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
        """Give pairs (winner, member) of all that can touch, and some that cannot."""
        centre, wide = (points[winners] - self.origin).T, reach[winners] + self.side
        low, high = ((centre + way) // self.side for way in (-wide, wide))
        (top, left), (bottom, right) = (
            np.minimum(np.maximum(side, 0), np.array(self.shape)[:, None]).astype(np.intp)
            for side in (low, high + 1)
        )
        which, row = ranges(top, bottom)
        first = row * self.shape[1]
        start, stop = first + left[which], first + right[which]
        strip, place = ranges(self.starts[start], self.starts[np.maximum(stop, start)])
        return winners[which[strip]], self.members[place]

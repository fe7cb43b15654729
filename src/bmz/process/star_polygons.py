"""Geometry of star-convex polygons, given by a centre and distances along equally spaced rays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray

Indices = NDArray[np.intp]

LEAST_DISTANCE = 1e-3
"""Shorter rays, and the negative ones that networks give, count as this many px."""

FEWEST_RAYS = 3


def directions(rays: int) -> FloatArray:
    """Give the unit vectors of `rays` rays: ray k points to (sin, cos) of 2 pi k / rays in (y, x).

    Returns
    -------
    (2, rays) float32, row 0 along y, row 1 along x
    """
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
    def of(cls, points: AnyArray, distances: AnyArray) -> Stars:
        """Take centres and distances of any dtype; rays shorter than 0.001 px get that length."""
        at_least = np.maximum(np.asarray(distances, np.float32), np.float32(LEAST_DISTANCE))
        return cls(np.asarray(points, np.float64), np.ascontiguousarray(at_least))

    def __len__(self) -> int:
        return len(self.distances)

    @property
    def rays(self) -> int:
        """The number of rays, and of corners."""
        return int(self.distances.shape[1])

    def take(self, which: AnyArray) -> Stars:
        """Give the polygons that an index, mask or slice selects."""
        return Stars(self.points[which], self.distances[which])

    def corners(self) -> FloatArray:
        """Give the corners, (n, 2, rays) float64, (y, x) in px."""
        arms: FloatArray = self.distances[:, None, :] * directions(self.rays)
        return self.points[:, :, None] + arms

    def areas(self) -> FloatArray:
        """Give the areas, (n,) float32, px squared."""
        return wedge_sine(self.rays) / 2 * _neighbour_products(self.distances)

    def reach(self) -> FloatArray:
        """Give the distance of the farthest corner from each centre, (n,) float32, px."""
        farthest: FloatArray = self.distances.max(axis=1, initial=0)
        return farthest

    def gauges(self) -> FloatArray:
        """Give the linear functions of (y, x), one a wedge: 0 in the centre, 1 on the outline.

        Returns
        -------
        (2, n, rays) float32: its slopes along y and along x between ray k and ray k + 1, 1 / px
        """
        y, x = self.distances * directions(self.rays)[:, None]
        next_y, next_x = following(y), following(x)
        slopes: FloatArray = np.stack([x - next_x, next_y - y]) / (x * next_y - y * next_x)
        return slopes

    def boxes(self) -> FloatArray:
        """Give the bounding boxes relative to the centres.

        Returns
        -------
        (n, 4) float32: lowest y, lowest x, highest y, highest x, in px
        """
        arms = [self.distances * along for along in directions(self.rays)]
        sides = [pick(arm, axis=1) for pick in (np.min, np.max) for arm in arms]
        return np.stack(sides, axis=1)


def following(ring: AnyArray) -> AnyArray:
    """Give the values of the next ray, (n, rays); the last ray is followed by the first."""
    return np.concatenate([ring[:, 1:], ring[:, :1]], axis=1)


def ranges(start: Indices, stop: Indices) -> tuple[Indices, Indices]:
    """Give the numbers from `start` up to, not including, `stop`, one range after the other.

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
    """Give the sine of the angle between neighbouring rays."""
    return np.float32(np.sin(2 * np.pi / rays))


def _neighbour_products(radii: FloatArray) -> FloatArray:
    # sum over the wedges of the product of their two radii, without a rolled copy
    inner: FloatArray = np.einsum("nk,nk->n", radii[:, :-1], radii[:, 1:])
    return inner + radii[:, -1] * radii[:, 0]


def least_overlap_areas(first: FloatArray, second: FloatArray, offset: FloatArray) -> FloatArray:
    """Bound the intersection areas of pairs of polygons from below, quickly.

    The polygon M of the smaller of the two distances along each ray fits into both, each time
    around their own centre. So the intersection holds M cut with a copy of M that is moved by the
    offset d, and moving cuts off at most half the integral of abs(n . d) along the outline of M.

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

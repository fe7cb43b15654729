"""Star-convex polyhedra: rays, rendering and suppression."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.process.star_polygons import LEAST_DISTANCE

FEWEST_RAYS_3D = 4


@dataclass(frozen=True)
class Rays:
    """Directions from the centre of a polyhedron, and the triangles that its corners span.

    Parameters
    ----------
    directions : (rays, 3) float64 unit vectors (z, y, x)
    faces : (faces, 3) numbers of the rays of each triangle
    shares : (faces, 3, 3) float64; multiplied by a vector, they give its components along the
        three rays of the face, none negative if the vector points through the face
    neighbours : (faces, 3) the face opposite each of the three rays
    """

    directions: FloatArray
    faces: Indices
    shares: FloatArray
    neighbours: Indices

    @cached_property
    def solid(self) -> FloatArray:
        """Volumes of the pyramids from the centre to each face at distance 1, (faces,)."""
        volumes: FloatArray = np.abs(np.linalg.det(self.directions[self.faces])) / 6
        return volumes

    def seen(self, first: Indices, stop: Indices) -> Faces:
        """Return the face that lies in the direction of each voxel of a box from the centre.

        Parameters
        ----------
        first, stop : (3,), offsets from the centre to the lowest voxel and the end of the box, px

        Returns
        -------
        (z, y, x) int32 numbers of faces
        """
        from bmz.process.star_stack_loops import map_directions

        towards = np.empty(stop - first, np.int32)
        map_directions(towards, first, self.shares, self.neighbours)
        return towards


@lru_cache(maxsize=8)
def golden_spiral(rays: int, anisotropy: tuple[float, float, float]) -> Rays:
    """Return evenly spread rays on a golden-angle spiral from pole to pole.

    Source: Weigert et al. 2020, doi 10.1109/WACV45572.2020.9093435; ``Rays_GoldenSpiral`` of
    stardist 0.9.2.

    Parameters
    ----------
    rays : 4 or more
    anisotropy : size of the objects' axes z, y, x relative to each other, the inverse of um per px:
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


class AnisotropyUnclear(WrongUsage):
    """The relative sizes of z, y and x are not three positive numbers."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"recipe 'stardist' cannot read the anisotropy '{text}'",
            hint="give three positive numbers for z, y and x, such as --set anisotropy=2,1,1",
            code="recipe.anisotropy",
        )


def anisotropy_of(text: str) -> tuple[float, float, float]:
    """Read the relative sizes of z, y and x.

    Raises
    ------
    AnisotropyUnclear
    """
    try:
        z, y, x = map(float, text.split(","))
    except ValueError as why:
        raise AnisotropyUnclear(text) from why
    if not (min(z, y, x) > 0 and np.isfinite([z, y, x]).all()):
        raise AnisotropyUnclear(text)
    return z, y, x


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
Faces = NDArray[np.int32]

NO_OVERLAP_LABEL = 0

WIDEST_MAP = 32
"""Beyond this distance from the centre, px, the face towards a voxel is searched each time, as a
larger map of faces would not fit in the cache."""

SMALLEST_SHELF = 3
"""Cells have at least 2 to the power of this px: smaller ones would outnumber candidates."""

ROUNDING = 1e-4
"""Smaller overlaps are ignored."""


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
    points : (n, 3) whole numbers, centres (z, y, x) in px
    distances : (n, rays), px along the rays
    scores : (n,)
    rays : their directions and faces
    threshold : the largest overlap that is allowed, 0 to 1

    Returns
    -------
    (kept,) indices into `points`, best first
    """
    if not len(points):
        return np.zeros(0, np.intp)
    polyhedra = _Polyhedra.of(points, distances, rays)
    alive, shelved, left = np.ones(len(points), np.bool_), 0, len(points)
    winners: list[int] = []
    for nth in np.argsort(-np.asarray(scores), kind="stable"):
        if not alive[nth]:
            continue
        if 2 * left <= shelved or not winners:  # remove those no longer alive
            shelves, shelved = polyhedra.shelves(np.flatnonzero(alive)), left
        alive[nth] = False
        overlapping = polyhedra.overlapping(nth, shelves, alive, max(threshold, ROUNDING))
        alive[overlapping] = False
        winners.append(nth)
        left -= 1 + len(overlapping)
    return np.array(winners, np.intp)


def render_polyhedra(
    points: AnyArray,
    distances: AnyArray,
    rays: Rays,
    shape: tuple[int, ...],
    overlap_label: int = NO_OVERLAP_LABEL,
) -> NDArray[np.int32]:
    """Label each voxel with the first polyhedron that contains its centre.

    Parameters
    ----------
    points : (n, 3) whole numbers, centres (z, y, x) in px, the best first; polyhedron i becomes
        label i + 1
    distances : (n, rays), px
    rays : their directions and faces
    shape : of the mask, px
    overlap_label : label of voxels in several polyhedra; 0 for that of the first

    Returns
    -------
    (z, y, x) int32; a polyhedron that others hide has no voxel
    """
    labels = np.zeros(shape, np.int32)
    if not len(points):
        return labels
    polyhedra = _Polyhedra.of(points, distances, rays)
    low, high = (np.clip(ends, 0, np.array(shape)) for ends in (polyhedra.low, polyhedra.high))
    for nth in range(len(points)):
        box = tuple(slice(*side) for side in zip(low[nth], high[nth], strict=True))
        there = labels[box]
        drawn = there == 0 if overlap_label == 0 else np.ones(there.shape, np.bool_)
        drawn = polyhedra.drawn(nth, drawn, low[nth])
        there[drawn] = np.where(there[drawn] == 0, nth + 1, overlap_label)
    return labels


@dataclass(frozen=True)
class _Shelf:
    """Polyhedra of similar size, sorted into cells, so that giants do not widen other searches.

    Parameters
    ----------
    members : their numbers, cell by cell in raster order of the cells
    starts : (z, y, x + 1) where each cell begins in `members`, and where each row of cells ends
    origin : (3,) the first voxel of the first cell
    reach : the largest reach of a member, px
    """

    members: Indices
    starts: Indices
    origin: Indices
    reach: int

    @property
    def side(self) -> int:
        """The side of a cell, px."""
        return self.reach // 2

    @classmethod
    def of(cls, members: Indices, centres: Indices, reach: int) -> _Shelf:
        origin = centres[members].min(axis=0)
        cell = (centres[members] - origin) // (reach // 2)
        shape = cell.max(axis=0) + 1
        flat = np.ravel_multi_index(tuple(cell.T), tuple(shape))
        ends = np.cumsum(np.bincount(flat, minlength=int(shape.prod()))).reshape(shape)
        begins = np.append(0, ends[..., -1].ravel()[:-1]).reshape(*shape[:2], 1)
        starts = np.concatenate([begins, ends], axis=2)
        return cls(members[np.argsort(flat, kind="stable")], starts, origin, reach)

    def near(self, centre: Indices, reach: int) -> list[Indices]:
        """Return all members that may touch a polyhedron of this centre and reach."""
        place, wide = centre - self.origin, reach + self.reach
        last = np.array(self.starts.shape) - [0, 0, 1]
        first = np.maximum(place - wide, 0) // self.side
        stop = np.minimum((place + wide) // self.side + 1, last)
        if (first >= stop).any():
            return []
        rows = self.starts[first[0] : stop[0], first[1] : stop[1]]
        begin, end = rows[..., first[2]].ravel(), rows[..., stop[2]].ravel()
        return [self.members[b:e] for b, e in zip(begin, end, strict=True) if b < e]


@dataclass(frozen=True)
class _Polyhedra:
    """Polyhedra with their bounding boxes and volumes.

    Parameters
    ----------
    centres : (n, 3) px
    radii : (n, rays) float32, px
    volumes : (n,) px
    low, high : (n, 3), the lowest voxel and the one after the highest
    giant : (n,), whether each reaches beyond `towards`
    rays : their directions and faces
    towards : (z, y, x) odd sizes, the face in the direction of each entry from the middle
    """

    centres: Indices
    radii: FloatArray
    volumes: FloatArray
    low: Indices
    high: Indices
    giant: BoolArray
    rays: Rays
    towards: Faces

    @classmethod
    def of(cls, points: AnyArray, distances: AnyArray, rays: Rays) -> _Polyhedra:
        from bmz.process.star_stack_loops import measure

        centres = np.ascontiguousarray(points, np.intp)
        at_least = np.maximum(np.asarray(distances, np.float32), np.float32(LEAST_DISTANCE))
        radii = np.ascontiguousarray(at_least)
        volumes, (low, high) = np.empty(len(radii)), np.empty((2, *centres.shape), np.intp)
        measure(volumes, low, high, centres, radii, rays.directions, rays.faces, rays.solid)
        extents = np.maximum(high - 1 - centres, centres - low)
        half = np.minimum(extents.max(axis=0), WIDEST_MAP)
        giant = (extents > half).any(axis=1)
        return cls(centres, radii, volumes, low, high, giant, rays, rays.seen(-half, half + 1))

    @cached_property
    def reach(self) -> Indices:
        """The longest ray of each polyhedron, rounded up, px."""
        longest: FloatArray = self.radii.max(axis=1)
        return np.ceil(longest).astype(np.intp)

    def shelves(self, which: Indices) -> list[_Shelf]:
        """Sort some onto shelves, one per doubling of their reach from 8 px."""
        size = np.maximum(np.ceil(np.log2(self.reach[which])).astype(np.intp), SMALLEST_SHELF)
        return [_Shelf.of(which[size == s], self.centres, 1 << int(s)) for s in np.unique(size)]

    def near(self, best: int, shelves: list[_Shelf], alive: BoolArray, least: float) -> Indices:
        """Return those alive whose box shares more than `least` of the smaller with the best's."""
        centre, reach = self.centres[best], int(self.reach[best])
        parts = [part for shelf in shelves for part in shelf.near(centre, reach)]
        near = np.concatenate([np.zeros(0, np.intp), *parts])
        near = near[alive[near]]
        shared = np.ones(len(near), np.intp)
        for low, high in zip(self.low.T, self.high.T, strict=True):
            side = np.minimum(high[best], high[near]) - np.maximum(low[best], low[near])
            meets = side > 0
            near, shared = near[meets], shared[meets] * side[meets]
        allowed = least * np.minimum(self.volumes[best], self.volumes[near])
        beyond: Indices = near[shared > allowed]
        return beyond

    def overlapping(
        self, best: int, shelves: list[_Shelf], alive: BoolArray, least: float
    ) -> Indices:
        """Return those alive that share more than `least` of the smaller volume with `best`."""
        from bmz.process.star_stack_loops import find_sure

        others = self.near(best, shelves, alive, least)
        allowed = least * np.minimum(self.volumes[best], self.volumes[others])
        rays, sure = self.rays, np.zeros(len(others), np.bool_)
        find_sure(
            sure, best, others, allowed, np.empty(self.radii.shape[1], np.float32), self.centres,
            self.radii, rays.directions, rays.faces, rays.solid,
        )  # fmt: skip
        if not sure.all():
            sure[~sure] = self._share_more(best, others[~sure], allowed[~sure])
        return others[sure]

    def _share_more(self, best: int, others: Indices, allowed: FloatArray) -> BoolArray:
        # whether each of `others` contains more than `allowed` voxels of the best
        corner = self.low[best]
        drawn = self.drawn(best, np.ones(self.high[best] - corner, np.bool_), corner)
        totals = self.totals(others, drawn, corner)
        more: BoolArray = totals > allowed
        most = allowed[more]
        more[more] = self._hold(others[more], drawn, corner, (totals[more], most)) > most
        return more

    def drawn(self, nth: int, where: BoolArray, corner: Indices) -> BoolArray:
        """Mark the voxels of `where`, which begins at `corner`, that polyhedron `nth` contains."""
        held = np.zeros(where.shape, np.bool_)
        self._hold(np.array([nth]), where, corner, held=held)
        return held

    def box(
        self, which: Indices, corner: Indices, shape: tuple[int, ...]
    ) -> tuple[Indices, Indices]:
        """Return the boxes of some in an array that begins at `corner`: two arrays of (n, 3)."""
        low, high = (np.clip(end[which] - corner, 0, shape) for end in (self.low, self.high))
        return low, high

    def totals(self, which: Indices, drawn: BoolArray, corner: Indices) -> Indices:
        """Count the voxels of `drawn`, which begins at `corner`, in the box of each polyhedron."""
        sums = np.zeros([side + 1 for side in drawn.shape], np.int32)
        sums[1:, 1:, 1:] = drawn
        for axis in range(3):
            np.cumsum(sums, axis, out=sums)
        ends = [end.T for end in self.box(which, corner, drawn.shape)]
        totals = np.zeros(len(which), np.intp)
        for side in product((0, 1), repeat=3):
            at = tuple(ends[end][axis] for axis, end in enumerate(side))
            totals += sums[at] * (-1) ** (3 - sum(side))
        return totals

    def _hold(
        self,
        which: Indices,
        drawn: BoolArray,
        corner: Indices,
        ends: tuple[Indices, FloatArray] | None = None,
        held: BoolArray | None = None,
    ) -> Indices:
        # `ends` are the totals and allowed counts of `hold`; with None, the whole is counted
        from bmz.process.star_stack_loops import hold

        rays, counts, nothing = self.rays, np.zeros(len(which), np.intp), np.zeros(len(which))
        totals, allowed = (nothing.astype(np.intp), nothing) if ends is None else ends
        held = np.empty(drawn.shape, np.bool_) if held is None else held
        slopes = np.empty((len(rays.faces), 3))
        for rows, planes, begin, towards, first in self._views(which, drawn.shape, corner):
            some, part = which[rows], np.zeros(len(rows), np.intp)
            low, high = self.box(some, begin, drawn[planes].shape)
            whole = ends is None or planes.stop - planes.start < len(drawn)
            hold(
                part, held[planes], drawn[planes], some, low, high, self.centres[some] - begin,
                totals[rows], allowed[rows], whole, self.radii, slopes, towards, first, rays.faces,
                rays.shares,
            )  # fmt: skip
            counts[rows] += part
        return counts

    def _views(
        self, which: Indices, sides: tuple[int, ...], corner: Indices
    ) -> Iterator[tuple[Indices, slice, Indices, Faces, Indices]]:
        # entries of `which`, planes of a box with their corner, and the faces towards its voxels
        giant, planes = self.giant[which], slice(0, sides[0])
        usual = np.flatnonzero(~giant)
        if len(usual):
            yield usual, planes, corner, self.towards, -(np.array(self.towards.shape) // 2)
        # the face maps of giants would need too much memory at once
        for row in np.flatnonzero(giant):
            for i in range(sides[0]):
                begin = corner + np.array([i, 0, 0])
                first = begin - self.centres[which[row]]
                view = self.rays.seen(first, first + np.array([1, *sides[1:]]))
                yield np.array([row]), slice(i, i + 1), begin, view, first

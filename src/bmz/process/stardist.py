"""The label recipe ``stardist``: object probability and ray distances become labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from bmz.base.arrays import (
    AnyArray,
    BoolArray,
    FloatArray,
    LabelArray,
    LazyArray,
    TensorDecoder,
    stable_order,
)
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.plan.tile_way import TileWay
from bmz.process.blocks import boxes_of_map
from bmz.process.object_classes import best_classes, class_names
from bmz.process.object_columns import Columns, scored
from bmz.process.recipe import SHARES, InBlocks, Knob, Labelled, Place, Recipe, Value
from bmz.process.relabel import in_raster_order, require_plane
from bmz.process.star_polygons import (
    FEWEST_RAYS,
    Indices,
    Stars,
    least_overlap_areas,
    overlap_areas,
    ranges,
    render_polygons,
    require_rays,
)
from bmz.process.star_stacks import (
    FEWEST_RAYS_3D,
    anisotropy_of,
    golden_spiral,
    render_polyhedra,
    suppress_polyhedra,
)

MOST_AT_ONCE = 512
"""Largest number of candidates that are compared with each other in one round."""

ROUNDING = 1e-4
"""A smaller overlap counts as none: areas are sums of float32, and sizes may differ 10,000-fold."""

PAIRS_AT_ONCE = 4096
"""Pairs whose overlap is bounded together, so that their distances stay in the cache."""


def non_maximum_suppression(
    points: AnyArray, distances: AnyArray, scores: AnyArray, threshold: float
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

    Returns
    -------
    (kept,) indices into `points`, best first
    """
    order = stable_order(-np.ascontiguousarray(scores))
    crowd = _Crowd.of(Stars.of(np.asarray(points), np.asarray(distances), order))
    waiting, alive = np.arange(len(order)), np.ones(len(order), np.bool_)
    chosen, at_once = [np.zeros(0, np.intp)], MOST_AT_ONCE
    while len(waiting):
        winners = crowd.undisputed(waiting[:at_once])
        alive[winners] = False
        alive[crowd.suppressed_by(winners, alive, threshold)] = False
        chosen.append(winners)
        waiting = waiting[alive[waiting]]
        at_once = min(max(8 * len(winners), MOST_AT_ONCE // 8), MOST_AT_ONCE)
    return order[np.sort(np.concatenate(chosen))]


@dataclass(frozen=True)
class _Crowd:
    """Polygons in the order of falling score, with what the quick tests need of them."""

    stars: Stars
    areas: FloatArray
    reach: FloatArray
    columns: Sequence[tuple[FloatArray, FloatArray, FloatArray]]
    shelves: Sequence[_Shelf]

    @classmethod
    def of(cls, stars: Stars) -> _Crowd:
        reach, boxes = stars.reach(), stars.boxes()
        # lowest and highest of each box, and the centre, along y and along x; each in one piece
        columns = [
            (boxes[:, axis].copy(), boxes[:, 2 + axis].copy(), stars.points[:, axis].astype("f4"))
            for axis in range(2)
        ]
        return cls(stars, stars.areas(), reach, columns, _shelves(stars.points, reach))

    def undisputed(self, front: Indices) -> Indices:
        """Give those of the best candidates `front` that touch no better one: they are kept."""
        points, reach = self.stars.points[front].astype(np.float32), self.reach[front]
        y, x = points.T
        apart = np.square(y[:, None] - y) + np.square(x[:, None] - x)
        touches = apart < np.square(reach[:, None] + reach)
        disputed = np.tril(touches, -1).any(axis=1)
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
        least = np.float32(max(threshold, ROUNDING))
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
        """Give the pairs whose boxes share more than is allowed, axis by axis, as most do not."""
        left = np.arange(len(winner))
        shared = np.ones(len(winner), np.float32)
        for axis in range(2):
            low, high, place = self.columns[axis]
            away = place[other] - place[winner]
            side = np.minimum(high[winner], high[other] + away)
            side -= np.maximum(low[winner], low[other] + away)
            meets = side > 0
            shared = shared[meets] * side[meets]
            left, winner, other = left[meets], winner[meets], other[meets]
        allowed = least * np.minimum(self.areas[winner], self.areas[other])
        near: Indices = left[shared > allowed]
        return near

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
        centre, wide = points[winners] - self.origin, (reach[winners] + self.side)[:, None]
        last = np.array(self.shape) - 1
        low = np.floor((centre - wide) / self.side).astype(np.intp).clip(0, last + 1)
        high = np.floor((centre + wide) / self.side).astype(np.intp).clip(-1, last)
        which, row = ranges(low[:, 0], high[:, 0] + 1)
        first = row * self.shape[1]
        start, stop = first + low[which, 1], first + high[which, 1] + 1
        strip, place = ranges(self.starts[start], self.starts[np.maximum(stop, start)])
        return winners[which[strip]], self.members[place]


ANY_PLACE = 0
"""Overlaps have no label of their own."""

STACK = 3


@dataclass(frozen=True)
class Candidates:
    """Places of an output map that may be the centre of an object, in raster order.

    Parameters
    ----------
    points : (n, 2 or 3) int64, centres ((z,) y, x) in px of the input
    distances : (n, rays) float32, px of the input
    scores : (n,) float32, probabilities
    classes : (n, classes) float32, that of each class; no columns where the network tells none
    """

    points: AnyArray
    distances: FloatArray
    scores: FloatArray
    classes: FloatArray

    def within(self, shape: tuple[int, ...]) -> Candidates:
        """Drop those whose centre lies outside an image of `shape` px, such as in its padding."""
        outside = (self.points < 0) | (self.points >= np.asarray(shape))
        return self.take(np.flatnonzero(~np.any(outside, axis=1)))

    def take(self, which: AnyArray) -> Candidates:
        """Give the candidates that an index or a mask selects."""
        return Candidates(
            self.points[which], self.distances[which], self.scores[which], self.classes[which]
        )

    def columns(self, names: Sequence[str]) -> Columns:
        """Give the score of each, and its best class where there are classes of these names."""
        return {**scored(self.scores), **best_classes(self.classes, names)}


@dataclass(frozen=True)
class StarSettings:
    """The parameters of the recipe, in the order of the reference page."""

    prob_threshold: Annotated[float, Knob("least probability of an object", 0, 1, cures=SHARES)] = (
        0.5
    )
    nms_threshold: Annotated[float, Knob("largest overlap of two objects, share of size", 0, 1)] = (
        0.4
    )
    border: Annotated[
        int, Knob("outermost cells of the network's grid without centres", 0, grows=1)
    ] = 2
    network_grid: Annotated[
        str,
        Knob(
            "(z,)y,x: px of the input a cell of the network's grid (config.stardist); empty: as "
            "the map's"
        ),
    ] = ""
    anisotropy: Annotated[str, Knob("stacks: of the rays along z, y, x (config.stardist)")] = (
        "1,1,1"
    )
    overlap_label: Annotated[int, Knob("stacks: label where objects overlap; 0: the best")] = (
        ANY_PLACE
    )
    classes: Annotated[
        str, Knob("names of the classes, whose maps follow the distances; the background first")
    ] = ""

    @property
    def class_count(self) -> int:
        """How many classes the network tells apart, the background among them."""
        return len(class_names(self.classes))

    def border_entries(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Give the width of the border along each axis, entries of a map of this `grid`.

        stardist leaves out cells of the grid on which the network predicts. A map that was
        exported on a finer one (``export_TF`` with ``upsample_grid``) has several entries a cell.

        Raises
        ------
        NetworkGridUnclear
            `network_grid` is not one whole number per axis.
        """
        if not self.network_grid:
            return (self.border,) * len(grid)
        try:
            cells = tuple(map(int, self.network_grid.split(",")))
        except ValueError as why:
            raise NetworkGridUnclear(self.network_grid, len(grid)) from why
        if len(cells) != len(grid) or min(cells) < 1:
            raise NetworkGridUnclear(self.network_grid, len(grid))
        return tuple(-(-self.border * cell // step) for cell, step in zip(cells, grid, strict=True))


class NetworkGridUnclear(WrongUsage):
    """The grid of the network is not one whole number per axis."""

    def __init__(self, text: str, axes: int) -> None:
        super().__init__(
            f"recipe 'stardist' cannot read the grid of the network '{text}' of {axes} axes",
            hint="give a whole number per axis, such as --set network_grid=2,2",
            code="recipe.network-grid",
        )


def ray_lengths(channels: int, _axes: int, parameters: Mapping[str, Value]) -> tuple[bool, ...]:
    """Say that distances are lengths, as `LengthsFunction` has it."""
    classes = len(class_names(str(parameters["classes"])))
    return (False, *(True,) * (channels - 1 - classes), *(False,) * classes)


def find_candidates(
    output: AnyArray,
    grid: tuple[int, ...],
    prob_threshold: float,
    border: int | tuple[int, ...],
    place: Place | None = None,
    classes: int = 0,
) -> Candidates:
    """Find the places with a probability above the threshold and a finite outline.

    Parameters
    ----------
    output : (1 + rays + classes, (z,) y, x), probability, distances in px of the input, and the
        probability of each class
    grid : spacing of the map along (z,) y and x, px of the input
    prob_threshold : a place needs more than this
    border : this many outermost places of the whole have no candidates; one number for all axes
        or one each
    place : where the output lies in the whole; None for all of it
    classes : how many of the last channels are those of classes
    """
    probability = output[0]
    widths = (border,) * probability.ndim if isinstance(border, int) else border
    inner = inner_part(place or Place.of_whole(probability.shape), probability.shape, widths)
    likely = np.zeros(probability.shape, np.bool_)
    likely[inner] = probability[inner] > prob_threshold
    at = np.nonzero(likely)
    first = len(output) - classes
    candidates = Candidates(
        np.stack(at, axis=1) * np.asarray(grid, np.int64),
        _read(output[1:first], at),
        probability[at].astype(np.float32),
        _read(output[first:], at),
    )
    if np.isfinite(candidates.distances.sum()) and np.isfinite(candidates.scores.sum()):
        return candidates
    finite = np.isfinite(candidates.distances).all(axis=1) & np.isfinite(candidates.scores)
    return candidates if finite.all() else candidates.take(finite)


def _read(maps: AnyArray, at: tuple[AnyArray, ...]) -> FloatArray:
    # what channels hold at n places, (n, channels) float32, turned while it is in the cache
    values = np.empty((len(at[0]), len(maps)), np.float32)
    for start in range(0, len(values) if len(maps) else 0, PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        place: tuple[Any, ...] = (slice(None), *(along[part] for along in at))
        values[part] = maps[place].T
    return values


def inner_part(place: Place, shape: tuple[int, ...], border: tuple[int, ...]) -> tuple[slice, ...]:
    """Give the part of an output that lies within the border of the whole."""
    ends = zip(place.origin, place.whole, shape, border, strict=True)
    return tuple(
        slice(max(edge - first, 0), max(min(whole - edge - first, size), 0))
        for first, whole, size, edge in ends
    )


def label_stars(
    output: AnyArray,
    grid: tuple[int, ...],
    settings: StarSettings,
    *,
    place: Place | None = None,
) -> Labelled:
    """Turn probability and ray distances into labels: the best objects that hardly overlap.

    Parameters
    ----------
    output : (1 + rays, y, x); ray k points to (sin, cos) of 2 pi k / rays in (y, x); or
        (1 + rays, z, y, x) with the rays of `bmz.process.star_stacks.golden_spiral`. The maps of
        classes, if there are any, come last
    grid : spacing of the map along (z,) y and x, px of the input
    place : where the output lies in the map of the image, whose border has no candidates; None
        for all of it
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``; the score of an object is its probability. Voxels with
        the overlap label are background if it is negative, and else one object more, of score 0

    Raises
    ------
    DimensionsNotDone
        `output` is neither (c, y, x) nor (c, z, y, x).
    ChannelsDiffer
        There are fewer rays than an outline needs.
    AnisotropyUnclear, NetworkGridUnclear
        These are no three positive numbers, or not one whole number per axis.
    """
    labels, winners = ranked_stars(output, grid, settings, place)
    columns = winners.columns(class_names(settings.classes))
    extra = max(int(labels.max(initial=0)) - len(winners.scores), 0)  # up to that of the overlap
    columns = {n: np.append(c, np.zeros(extra, c.dtype)) for n, c in columns.items()}
    return in_raster_order(labels, columns)


def ranked_stars(
    output: AnyArray, grid: tuple[int, ...], settings: StarSettings, place: Place | None = None
) -> tuple[LabelArray, Candidates]:
    """Give the labels in the order of falling probability, as stardist numbers them.

    Parameters
    ----------
    output, grid, place : as in `label_stars`

    Returns
    -------
    ((z,) y, x) int32, Candidates
        labels 1 to n, and the overlap label if there is one; what stands for each
    """
    shape = tuple(size * step for size, step in zip(output.shape[1:], grid, strict=True))
    if output.ndim == 1 + STACK:
        return _in_stack(output, grid, settings, place)
    require_plane("stardist", output)
    require_rays(output, FEWEST_RAYS + settings.class_count)
    candidates = _candidates(output, grid, settings, place)
    winners = candidates.take(
        non_maximum_suppression(
            candidates.points, candidates.distances, candidates.scores, settings.nms_threshold
        )
    )
    height, width = shape
    labels = render_polygons(winners.points, winners.distances, winners.scores, (height, width))
    return labels, winners


def _candidates(
    output: AnyArray, grid: tuple[int, ...], settings: StarSettings, place: Place | None
) -> Candidates:
    threshold, border = settings.prob_threshold, settings.border_entries(grid)
    return find_candidates(output, grid, threshold, border, place, settings.class_count)


def _in_stack(
    output: AnyArray, grid: tuple[int, ...], settings: StarSettings, place: Place | None
) -> tuple[LabelArray, Candidates]:
    require_rays(output, FEWEST_RAYS_3D + settings.class_count)
    count = len(output) - 1 - settings.class_count
    rays = golden_spiral(count, anisotropy_of(settings.anisotropy))
    candidates = _candidates(output, grid, settings, place)
    winners = candidates.take(
        suppress_polyhedra(
            candidates.points, candidates.distances, candidates.scores, rays, settings.nms_threshold
        )
    )
    shape = tuple(size * step for size, step in zip(output.shape[1:], grid, strict=True))
    labels = render_polyhedra(
        winners.points, winners.distances, rays, shape, settings.overlap_label
    )
    return labels, winners


def longest_ray(maps: LazyArray, parameters: Mapping[str, Value], grid: Sequence[int]) -> int:
    """Give the longest ray of any candidate, entries of the map.

    A star whose centre lies beyond what a block sees would not be found at all, so a block sees
    as far as that; see `bmz.process.recipe.OverlapFunction`.
    """
    longest, classes = 0.0, len(class_names(str(parameters["classes"])))
    for box in boxes_of_map(maps):
        part = np.asarray(maps[box])
        rays = part[1 : len(part) - classes][:, part[0] > float(parameters["prob_threshold"])]
        longest = max(longest, float(rays[np.isfinite(rays)].max(initial=0)))
    return int(np.ceil(longest / min(grid[-2:])))


STARDIST = Recipe(
    name="stardist",
    what="object probability and distances along rays: the best star-convex objects",
    source="Schmidt et al. 2018, doi 10.1007/978-3-030-00934-2_30; Weigert et al. 2020, doi "
    "10.1109/WACV45572.2020.9093435; stardist 0.9.2",
    label=label_stars,
    placed=True,
    in_blocks=InBlocks(least_overlap=longest_ray),
    settings=StarSettings,
    tiles=TileWay(source="stardist 0.9.2, StarDistPadAndCropResizer: mirrored, at the end only"),
    rescale_why="outlines are polygons, whose distances grow with the image",
    lengths=ray_lengths,
    sparse=True,
    on_tensors=TensorDecoder("bmz.process.star_tensors:label_stars_there", 64),
)
"""The recipe of StarDist models."""

"""The label recipe ``stardist`` for planes on PyTorch tensors; masks are the same as for arrays.

Polygons are drawn by elementwise arithmetic in the order of `bmz.process.star_polygons`, which
rounds alike everywhere; the wedge of an offset is looked up in a table made by NumPy. Overlaps are
computed in float64; those too close to the limit for a sum of float32 are left to
`bmz.process.star_suppression.non_maximum_suppression`, so that no order of sums matters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray, LeftToProcessor, TensorPlace
from bmz.base.values import dataclass
from bmz.process.object_columns import SCORE, Columns, rows_of, scored
from bmz.process.recipe import Labelled, Place
from bmz.process.relabel import require_plane
from bmz.process.star_polygons import (
    FEWEST_RAYS,
    LEAST_DISTANCE,
    ON_THE_EDGE,
    directions,
    require_rays,
    wedge_sine,
)
from bmz.process.star_suppression import ROUNDING, non_maximum_suppression
from bmz.process.stardist import STACK, StarSettings, inner_part, outlines_of

if TYPE_CHECKING:
    from torch import Tensor

MOST_AT_ONCE = 512
"""Largest number of candidates that are compared with each other in one round."""

FARTHEST_PX = 2048
"""Longest ray for which wedges are looked up."""

DOUBT = 1e-4
"""An overlap closer to the limit than this fraction of the larger polygon is decided on the CPU,
whose sums of float32 are off by about 1e-5 of it."""

ENTRIES_AT_ONCE, PAIRS_AT_ONCE = 1 << 24, 1 << 21  # edges or pixels, and pairs


def label_stars_there(
    there: TensorPlace,
    output: AnyArray | Tensor,
    grid: tuple[int, ...],
    settings: StarSettings,
    *,
    place: Place | None = None,
) -> Labelled:
    """Label the objects of a plane, given probability and ray distances.

    Parameters
    ----------
    there : where tensors are placed
    output, grid, settings, place : see `bmz.process.stardist.label_stars`

    Raises
    ------
    LeftToProcessor
        It is a stack, there are classes, or a ray is too long.
    """
    if settings.classes or output.ndim == 1 + STACK:
        raise LeftToProcessor("stars of classes or stacks are not drawn there")
    maps: Any = there.taken(output)
    require_plane("stardist", maps)
    require_rays(maps, FEWEST_RAYS)
    stars = _candidates(there, maps, grid, settings, place)
    if len(stars) and _farthest_px(stars) > FARTHEST_PX:
        raise LeftToProcessor(f"a ray is longer than {FARTHEST_PX} px")
    stars = stars.take(_best(there, stars, settings.nms_threshold))
    height, width = (size * step for size, step in zip(maps.shape[1:], grid, strict=True))
    ranks, drawn = _drawn(there, stars, (height, width))
    points, distances = there.get(drawn.points), there.get(drawn.distances)
    outlines = outlines_of(points, distances, grid, place)
    return _in_raster_order(there, ranks, {**scored(there.get(drawn.scores)), **outlines})


@dataclass(frozen=True)
class _Stars:
    """Star-convex polygons as tensors; see `bmz.process.star_polygons.Stars`.

    Parameters
    ----------
    points : (n, 2) int64, centres (y, x) in px of the input
    distances : (n, rays) float32, px, all positive
    scores : (n,) float32
    """

    points: Tensor
    distances: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.distances)

    def take(self, which: Tensor) -> _Stars:
        """Return the polygons that an index selects."""
        return _Stars(self.points[which], self.distances[which], self.scores[which])

    def reach(self) -> Tensor:
        """Return the distance of the farthest corner from each centre, (n,) float32, px."""
        farthest: Tensor = self.distances.amax(1)
        return farthest


def _farthest_px(stars: _Stars) -> int:
    return int(np.ceil(float(stars.reach().max()))) + 1


def _candidates(
    there: TensorPlace,
    maps: Tensor,
    grid: tuple[int, ...],
    settings: StarSettings,
    place: Place | None,
) -> _Stars:
    """Find the positions that may be centres; see `bmz.process.stardist.find_candidates`."""
    torch, probability = there.torch, maps[0]
    shape = tuple(probability.shape)
    inner = inner_part(place or Place.of_whole(shape), shape, settings.border_entries(grid))
    likely = torch.zeros(shape, dtype=torch.bool, device=there.device)
    limit = there.limit(settings.prob_threshold, maps)
    likely[inner] = probability[inner] > limit
    y, x = likely.nonzero().T
    distances, scores = maps[1:, y, x].T.to(torch.float32), probability[y, x].to(torch.float32)
    finite = distances.isfinite().all(1) & scores.isfinite()
    points = torch.stack([y * grid[0], x * grid[1]], 1)
    at_least = distances.clamp(min=float(np.float32(LEAST_DISTANCE))).contiguous()
    return _Stars(points[finite], at_least[finite], scores[finite])


def _best(there: TensorPlace, stars: _Stars, threshold: float) -> Tensor:
    """Keep the best that hardly overlap, best first; see `non_maximum_suppression`.

    The rounds are those of that function: of the best remaining candidates, those that touch no
    better one are kept, and all that overlap one of them are dropped.
    """
    torch = there.torch
    if not len(stars):
        return stars.points[:, 0]
    # ties keep their order, which an unstable sort would not guarantee
    order = torch.sort(-stars.scores, stable=True).indices
    crowd = _Crowd.of(there, stars.take(order), threshold)
    alive = torch.ones(len(order), dtype=torch.bool, device=there.device)
    waiting, chosen = torch.arange(len(order), device=there.device), []
    at_once = MOST_AT_ONCE
    while len(waiting):
        winners = crowd.undisputed(waiting[:at_once])
        alive[winners] = False
        crowd.suppress(winners, alive)
        chosen.append(winners)
        waiting = waiting[alive[waiting]]
        at_once = min(max(8 * len(winners), MOST_AT_ONCE // 8), MOST_AT_ONCE)
    best: Tensor = order[torch.sort(torch.cat(chosen)).values]
    return best


@dataclass(frozen=True)
class _Crowd:
    """Polygons in the order of falling score, with the measures that the tests need.

    Parameters
    ----------
    least : the largest fraction of the smaller polygon that may overlap
    reach : (n,) float32, px
    areas : (n,) float64, px squared
    low, high : (n, 2) float32, the bounding boxes relative to the centres
    shelves : polygons of similar size, sorted by position
    """

    there: TensorPlace
    stars: _Stars
    least: float
    reach: Tensor
    areas: Tensor
    low: Tensor
    high: Tensor
    shelves: Sequence[_Shelf]

    @classmethod
    def of(cls, there: TensorPlace, stars: _Stars, threshold: float) -> _Crowd:
        reach, (low, high) = stars.reach(), _boxes(there, stars)
        octave = reach.clamp(min=1).log2().ceil().to(there.torch.int64)
        shelves = [
            _Shelf.of(there, (octave == size).nonzero()[:, 0], stars.points, 2 ** int(size))
            for size in there.torch.unique(octave).tolist()
        ]
        areas = _areas(stars.distances.double())
        least = max(threshold, ROUNDING)
        return cls(there, stars, least, reach, areas, low, high, shelves)

    def undisputed(self, front: Tensor) -> Tensor:
        """Return the best candidates of `front` that touch no better one and are kept."""
        y, x = self.stars.points[front].to(self.there.torch.float32).T
        reach = self.reach[front]
        apart = (y[:, None] - y).square() + (x[:, None] - x).square()
        touches = apart < (reach[:, None] + reach).square()
        winners: Tensor = front[~touches.tril(-1).any(1)]
        return winners

    def suppress(self, winners: Tensor, alive: Tensor) -> None:
        """Drop the living candidates that overlap one of `winners` by more than allowed."""
        near: list[tuple[Tensor, Tensor]] = []
        for shelf in self.shelves:
            for winner, other in shelf.near(self.there, winners, self.stars.points, self.reach):
                here = alive[other].nonzero()[:, 0]
                near.append((winner[here], other[here]))
                if sum(len(pairs) for pairs, _ in near) > PAIRS_AT_ONCE:
                    self._judge(near, alive)
                    near.clear()
        if near:
            self._judge(near, alive)

    def _judge(self, pairs: Sequence[tuple[Tensor, Tensor]], alive: Tensor) -> None:
        torch = self.there.torch
        winner, other = (torch.cat(side) for side in zip(*pairs, strict=True))
        away = (self.stars.points[other] - self.stars.points[winner]).to(torch.float32)
        sides = torch.minimum(self.high[winner], self.high[other] + away) - torch.maximum(
            self.low[winner], self.low[other] + away
        )
        largest = torch.maximum(self.areas[winner], self.areas[other])
        allowed = self.least * torch.minimum(self.areas[winner], self.areas[other])
        shared = sides[:, 0].double() * sides[:, 1].double()
        near = (sides > 0).all(1) & (shared > allowed - DOUBT * largest)
        winner, other, away = winner[near], other[near], away[near].double()
        allowed, doubt = allowed[near], DOUBT * largest[near]
        for part in _parts(len(winner), ENTRIES_AT_ONCE // (8 * self.stars.distances.shape[1])):
            first = self.stars.distances[other[part]].double()
            second = self.stars.distances[winner[part]].double()
            beyond = _least_overlap_areas(self.there, second, first, away[part]) - allowed[part]
            rest = (beyond <= doubt[part]).nonzero()[:, 0]
            if len(rest):
                exact = _overlap_areas(self.there, first[rest], second[rest], away[part][rest])
                beyond[rest] = exact - allowed[part][rest]
            alive[other[part][beyond > doubt[part]]] = False
            unsure = (beyond.abs() <= doubt[part]).nonzero()[:, 0]
            if len(unsure):
                refused = self._refused(winner[part][unsure], other[part][unsure])
                alive[other[part][unsure[refused]]] = False

    def _refused(self, winner: Tensor, other: Tensor) -> Tensor:
        """Return which pairs overlap too much; the CPU decides those too close to the limit."""
        there, pairs = self.there, len(winner)
        points, distances = (
            [there.get(values[which]) for which in (winner, other)]
            for values in (self.stars.points, self.stars.distances)
        )
        # each pair is moved far from all others
        apart = 8 * int(np.ceil(max(float(d.max()) for d in distances)))
        row, column = np.divmod(np.arange(pairs), math.isqrt(pairs) + 1)
        place = np.stack([row, column], 1) * apart
        best = non_maximum_suppression(
            np.concatenate([place, place + points[1] - points[0]]),
            np.concatenate(distances),
            np.repeat(np.array([1, 0.5], np.float32), pairs),
            self.least,
        )
        refused = np.ones(2 * pairs, np.bool_)
        refused[best] = False
        return there.put(np.flatnonzero(refused[pairs:]))


@dataclass(frozen=True)
class _Shelf:
    """Candidates of similar size in square cells, as the shelves of `bmz.process.stardist`.

    `starts` says where each cell begins among the `members`; `origin` and `side` are in px.
    """

    members: Tensor
    starts: Tensor
    origin: Tensor
    side: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, there: TensorPlace, members: Tensor, points: Tensor, side: int) -> _Shelf:
        torch = there.torch
        origin = points[members].amin(0)
        cell = (points[members] - origin) // side
        rows, columns = (int(most) + 1 for most in cell.amax(0).tolist())
        flat = cell[:, 0] * columns + cell[:, 1]
        ends = torch.bincount(flat, minlength=rows * columns).cumsum(0)
        starts = torch.nn.functional.pad(ends, (1, 0))
        by_cell = members[torch.sort(flat, stable=True).indices]
        return cls(by_cell, starts, origin, side, (rows, columns))

    def near(
        self, there: TensorPlace, winners: Tensor, points: Tensor, reach: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Return pairs (winner, member) of all that can touch, and some that cannot, in parts."""
        centre = points[winners] - self.origin
        wide = (reach[winners].ceil().to(centre.dtype) + self.side)[:, None]
        last = there.put(np.array(self.shape)) - 1
        low = ((centre - wide) // self.side).clamp(min=0).minimum(last + 1)
        high = ((centre + wide) // self.side).clamp(min=-1).minimum(last)
        which, row = _ranges(there, low[:, 0], high[:, 0] + 1)
        first = row * self.shape[1]
        start = self.starts[first + low[which, 1]]
        stop = self.starts[(first + high[which, 1] + 1).maximum(first + low[which, 1])]
        for part in _parts_of(there, stop - start, PAIRS_AT_ONCE):
            strip, place = _ranges(there, start[part], stop[part])
            yield winners[which[part][strip]], self.members[place]


def _ranges(there: TensorPlace, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers from `start` up to `stop`; see `bmz.process.star_polygons.ranges`."""
    length = (stop - start).clamp(min=0)
    which = there.torch.repeat_interleave(length)
    before = length.cumsum(0) - length
    return which, there.torch.arange(len(which), device=there.device) - (before - start)[which]


def _parts(count: int, most: int) -> Iterator[slice]:
    return (slice(start, start + most) for start in range(0, count, max(most, 1)))


def _parts_of(there: TensorPlace, lengths: Tensor, most: int) -> Iterator[slice]:
    # runs of lengths whose sum is at most `most`, or a single longer one
    ends = there.get(lengths.cumsum(0))
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _areas(radii: Tensor) -> Tensor:
    areas: Tensor = (radii * radii.roll(-1, 1)).sum(1) * (float(wedge_sine(radii.shape[1])) / 2)
    return areas


def _boxes(there: TensorPlace, stars: _Stars) -> tuple[Tensor, Tensor]:
    # lowest and highest y and x relative to the centres, (n, 2) float32 each
    arms = [stars.distances * along for along in there.put(directions(stars.distances.shape[1]))]
    low = there.torch.stack([arm.amin(1) for arm in arms], 1)
    return low, there.torch.stack([arm.amax(1) for arm in arms], 1)


def _least_overlap_areas(
    there: TensorPlace, first: Tensor, second: Tensor, offset: Tensor
) -> Tensor:
    """Compute lower bounds of overlaps; see `bmz.process.star_polygons.least_overlap_areas`."""
    y, x = there.put(directions(first.shape[1])).double()
    smaller = there.torch.minimum(first, second)
    across = smaller * (offset[:, 1:] * y - offset[:, :1] * x)
    cut = (across.roll(-1, 1) - across).abs().sum(1) / 2
    least: Tensor = _areas(smaller) - cut
    return least


def _overlap_areas(there: TensorPlace, first: Tensor, second: Tensor, offset: Tensor) -> Tensor:
    """Return the areas of intersections; see `bmz.process.star_polygons.overlap_areas`.

    Parameters
    ----------
    first, second : (pairs, rays) float64, px
    offset : (pairs, 2) float64, centre of the first minus centre of the second, px

    Returns
    -------
    (pairs,) float64, px squared
    """
    torch, rays = there.torch, first.shape[1]
    uy, ux = there.put(directions(rays)).double()
    arms_y, arms_x = first * uy, first * ux
    edge_y, edge_x = arms_y.roll(-1, 1) - arms_y, arms_x.roll(-1, 1) - arms_x
    y, x = arms_y + offset[:, :1], arms_x + offset[:, 1:]
    cross = x * edge_y - y * edge_x
    turn = torch.atan2(y, x) * (rays / (2 * math.pi))
    step = turn.roll(-1, 1) - turn
    step = step - rays * (step / rays).round()  # the shorter way round
    wedge = turn.floor()
    steps = ((turn + step).floor() - wedge).long().reshape(-1)
    wedge = wedge.long().remainder(rays)

    # edges are cut at the rays around the centre of the second
    edge = torch.repeat_interleave(steps.abs() + 1)
    corner = (steps.abs() + 1).cumsum(0) - steps.abs() - 1
    nth = torch.arange(len(edge), device=there.device) - corner[edge]
    pair = edge // rays
    onward = torch.where(steps[edge] > 0, nth, 1 - nth)
    ray = (wedge.reshape(-1)[edge] + onward).remainder(rays)
    from_y, from_x = y.reshape(-1)[edge], x.reshape(-1)[edge]
    along_y, along_x = edge_y.reshape(-1)[edge], edge_x.reshape(-1)[edge]
    gap = along_y * ux[ray] - along_x * uy[ray]
    gap = torch.where(gap == 0, 1, gap)  # an edge along the ray spans no area
    t = ((from_y * -ux[ray] + from_x * uy[ray]) / gap).clamp(0, 1)
    met = (from_y + t * along_y) * uy[ray] + (from_x + t * along_x) * ux[ray]
    crossing = nth > 0
    t = torch.where(crossing, t, 0)
    share = torch.where(
        crossing, met / second[pair, ray], _shares(there, second, wedge, y, x)[edge]
    )
    ends = torch.ones_like(t)
    goes_on = (edge[1:] == edge[:-1]).nonzero()[:, 0]
    ends[goes_on] = t[goes_on + 1]
    # every piece ends where the next begins; the last one of an outline ends at its first corner
    next_share = share.roll(-1)
    outlines = corner[::rays]
    last = torch.cat([outlines[1:], outlines.new_tensor([len(edge)])]) - 1
    next_share[last] = share[outlines]
    cut = (ends - t) * cross.reshape(-1)[edge] * _inside(share, next_share)
    areas: Tensor = torch.zeros(len(first), dtype=cut.dtype, device=there.device)
    return areas.index_add_(0, pair, cut).clamp(min=0) / 2


def _shares(there: TensorPlace, second: Tensor, wedge: Tensor, y: Tensor, x: Tensor) -> Tensor:
    # distance of each corner from the centre as a fraction of that to the outline, flat
    along_y, along_x = (part.gather(1, wedge) for part in _gauges(there, second))
    shares: Tensor = (y * along_y + x * along_x).reshape(-1)
    return shares


def _gauges(there: TensorPlace, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slopes of each wedge along y and x; see `star_polygons.Stars.gauges`."""
    uy, ux = there.put(directions(distances.shape[1])).to(distances.dtype)
    y, x = distances * uy, distances * ux
    next_y, next_x = y.roll(-1, 1), x.roll(-1, 1)
    across = x * next_y - y * next_x
    return (x - next_x) / across, (next_y - y) / across


def _inside(start: Tensor, end: Tensor) -> Tensor:
    # fraction of the triangle (centre, start, end) where the linear fraction is at most 1
    low, high = start.minimum(end), start.maximum(end)
    run = high - low
    t = ((1 - low) / run.where(run != 0, 1)).clamp(0, 1)
    across: Tensor = t + (1 - t) / (high.clamp(min=1) * low.clamp(min=1))
    return across


def _drawn(there: TensorPlace, stars: _Stars, shape: tuple[int, int]) -> tuple[Tensor, _Stars]:
    """Label each pixel with the best polygon that contains its centre; see `render_polygons`.

    Returns
    -------
    (y, x) int32, _Stars
        ranks from 1, the best last, and the star of each; 0 is background
    """
    torch = there.torch
    ranks = torch.zeros(shape, dtype=torch.int32, device=there.device)
    stars = stars.take(torch.sort(stars.scores, stable=True).indices)
    if not len(stars):
        return ranks, stars
    farthest = _farthest_px(stars)
    wedges = there.put(_wedge_table(farthest, stars.distances.shape[1]))
    gauges, low, high = _gauges(there, stars.distances), *_windows(there, stars, shape)
    star, y = _ranges(there, low[:, 0], high[:, 0])
    for part in _parts_of(there, high[star, 1] - low[star, 1], ENTRIES_AT_ONCE):
        line, x = _ranges(there, low[star[part], 1], high[star[part], 1])
        s, row = star[part][line], y[part][line]
        off_y, off_x = row - stars.points[s, 0], x - stars.points[s, 1]
        wedge = wedges[off_y + farthest, off_x + farthest].long()
        share = off_y.float() * gauges[0][s, wedge] + off_x.float() * gauges[1][s, wedge]
        inside = share <= there.limit(float(np.float32(1) + ON_THE_EDGE), share)
        # where polygons overlap, the highest number stays, which is the best
        place = (row * shape[1] + x)[inside]
        ranks.view(-1).scatter_reduce_(0, place, (s[inside] + 1).int(), "amax")
    return ranks, stars


def _wedge_table(farthest: int, rays: int) -> AnyArray:
    # wedge of each offset (y, x) from -farthest to farthest, by the arctangent of
    # `render_polygons`, whose last bit differs from that of a GPU
    along = np.arange(-farthest, farthest + 1, dtype=np.float32)
    turn = np.arctan2(along[:, None], along) * np.float32(rays / (2 * np.pi))
    table: AnyArray = (np.floor(turn).astype(np.int16) % rays).astype(np.int16)
    return table


def _windows(there: TensorPlace, stars: _Stars, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    low, high = _boxes(there, stars)
    slack = float(ON_THE_EDGE) * stars.reach()[:, None]
    whole = there.put(np.array(shape, np.float64))
    first = (low + stars.points.double() - slack).ceil().clamp(min=0).minimum(whole)
    stop = ((high + stars.points.double() + slack).floor() + 1).clamp(min=0).minimum(whole)
    return first.long(), stop.maximum(first).long()


def _in_raster_order(there: TensorPlace, ranks: Tensor, columns: Columns) -> Labelled:
    """Renumber the visible objects; see `bmz.process.relabel.in_raster_order`."""
    torch, flat = there.torch, ranks.reshape(-1)
    seen = flat.nonzero()[:, 0]
    first = torch.full((len(columns[SCORE]),), flat.numel(), device=there.device)
    first.scatter_reduce_(0, flat[seen].long() - 1, seen, "amin")
    present = (first < flat.numel()).nonzero()[:, 0]
    old = present[torch.sort(first[present]).indices]
    number = torch.zeros(len(first) + 1, dtype=torch.int32, device=there.device)
    number[old + 1] = torch.arange(1, len(old) + 1, dtype=torch.int32, device=there.device)
    labels: LabelArray = there.get(number[flat.long()].reshape(ranks.shape))
    return Labelled(labels, rows_of(columns, there.get(old)))

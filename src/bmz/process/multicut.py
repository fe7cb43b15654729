"""The label recipe ``multicut``: superpixels, separated by the cut with the least total cost."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.values import dataclass
from bmz.process.gasp import GASP, Borders, GaspSettings, Indices, filled, superpixels, touching
from bmz.process.recipe import InBlocks, Labelled, Recipe
from bmz.process.relabel import on_input_grid, one_map, renumbered

LEAST_PROBABILITY = 1e-3
"""Probabilities are rescaled to between this and 1 minus this, so that logarithms are finite."""

MOST_ROUNDS = 100
"""Maximum number of rounds of the refinement; hardly any map takes more than five."""

LEAST_GAIN = 1e-6
"""Gains up to this count as rounding errors, since costs are sums of float64."""


@dataclass(frozen=True)
class MulticutSettings(GaspSettings):
    """Parameters of the recipe."""


def label_multicut(output: AnyArray, grid: tuple[int, ...], settings: MulticutSettings) -> Labelled:
    """Split the image into superpixels along boundaries, and merge them by a multicut.

    Cutting a border of two superpixels with the mean probability p costs its length times
    log((1 - p) / p) + log((1 - beta) / beta), which is negative where a cut is favoured. To
    minimize the total cost, pairs are merged, the one with the highest cost first, while that
    cost is positive; then single superpixels and whole objects move to neighbours while the total
    falls. Superpixels, the smallest object and all sizes are those of `bmz.process.gasp`.

    Parameters
    ----------
    output : (c, (z,) y, x), one channel is a boundary probability
    grid : spacing of the map, px of the input; distances and sizes take it into account
    settings : parameters of the recipe

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``, without scores

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    boundary = np.nan_to_num(one_map("multicut", output, settings.channel).astype(np.float32))
    pixels = superpixels(boundary, grid, settings)
    borders = touching(pixels, boundary)
    costs = costs_of(borders, settings.beta)
    number = refined(borders, costs, joined_greedily(borders, costs, int(pixels.max())))
    joined = renumbered(pixels, np.append(0, number + 1))
    labels = renumbered(filled(boundary, joined, settings.min_size, grid))
    return Labelled(on_input_grid(labels, grid))


def costs_of(borders: Borders, beta: float) -> FloatArray:
    """Return the cost of cutting each border, (pairs,); negative where a cut is favoured.

    Source: elf 0.9.2, ``elf.segmentation.multicut.transform_probabilities_to_costs``; here the
    lengths are not divided by the greatest one, which changes no cut.
    """
    mean = borders.total / np.maximum(borders.count, 1)
    likely = LEAST_PROBABILITY + (1 - 2 * LEAST_PROBABILITY) * mean.clip(0, 1)
    bias = min(max(beta, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)
    costs: FloatArray = (np.log((1 - likely) / likely) + np.log((1 - bias) / bias)) * borders.count
    return costs


_Graph = list[dict[int, float]]
"""The neighbours of each region, and the cost of cutting it from each of them."""


def _graph(borders: Borders, costs: FloatArray, regions: int) -> _Graph:
    graph: _Graph = [{} for _ in range(regions)]
    ends = zip(borders.first.tolist(), borders.second.tolist(), costs.tolist(), strict=True)
    for one, other, cost in ends:
        graph[one][other] = graph[other][one] = cost
    return graph


def joined_greedily(borders: Borders, costs: FloatArray, regions: int) -> Indices:
    """Repeatedly merge the two regions whose cut costs most, while a cost is positive.

    Greedy additive edge contraction of Keuper et al. 2015 (doi 10.1109/ICCV.2015.204). Among equal
    costs, the border of the lower region numbers comes first.

    Parameters
    ----------
    borders, costs : borders of all touching pairs, and the cost of cutting each
    regions : number of regions

    Returns
    -------
    (regions,) the new number of each region, from 0
    """
    graph = _graph(borders, costs, regions)
    into = list(range(regions))
    waiting = [
        (-w, a, b) for a, near in enumerate(graph) for b, w in near.items() if a < b and w > 0
    ]
    heapify(waiting)
    while waiting:
        falling, a, b = heappop(waiting)
        if graph[a].get(b) != -falling:  # one of them has been merged with another since
            continue
        into[b] = a
        del graph[a][b], graph[b][a]
        for c, cost in graph[b].items():
            graph[a][c] = graph[c][a] = graph[a].get(c, 0.0) + cost
            del graph[c][b]
            if graph[a][c] > 0:
                heappush(waiting, (-graph[a][c], min(a, c), max(a, c)))
        graph[b] = {}
    for k, one in enumerate(into):
        into[k] = into[one]  # the entry of a lower number, which is already final
    return np.unique(np.array(into, np.intp), return_inverse=True)[1]


def refined(borders: Borders, costs: FloatArray, number: Indices) -> Indices:
    """Move regions between objects, and merge and split objects, while the cut becomes cheaper.

    Kernighan-Lin search with joins of Keuper et al. 2015 (doi 10.1109/ICCV.2015.204): between two
    touching objects, or one object and an empty one, single regions change sides, the best one
    first even if it raises the cost, and the sequence of moves is kept up to its greatest gain.

    Parameters
    ----------
    borders, costs : borders of all touching pairs, and the cost of cutting each
    number : (regions,) the object of each region at the start, from 0

    Returns
    -------
    (regions,) the new object of each region, from 0
    """
    search = _Search(_graph(borders, costs, len(number)), number.tolist())
    for _ in range(MOST_ROUNDS):
        if not search.round():
            break
    return np.unique(np.array(search.own, np.intp), return_inverse=True)[1]


class _Search:
    """State of the search: the object of each region, and the objects that have changed."""

    def __init__(self, graph: _Graph, own: list[int]) -> None:
        self.graph, self.own = graph, own
        self.members: dict[int, set[int]] = {}
        for region, one in enumerate(own):
            self.members.setdefault(one, set()).add(region)
        self.changed = set(self.members)

    def round(self) -> bool:
        """Improve all touching pairs with a changed object; return whether anything moved."""
        changed, self.changed = self.changed, set()
        pairs = {
            (min(a, b), max(a, b))
            for a in changed
            for region in self.members.get(a, ())
            for b in (self.own[near] for near in self.graph[region])
            if a != b
        }
        for a, b in sorted(pairs):
            if self.members.get(a) and self.members.get(b):
                self._improve(a, b)
        for a in sorted(changed):
            while self.members.get(a) and self._improve(a, self._unused()):
                pass
        return bool(self.changed)

    def _unused(self) -> int:
        return max(self.members, default=-1) + 1

    def _improve(self, a: int, b: int) -> bool:
        """Apply the best moves between two objects, the second of which may be empty."""
        sides = {a: set(self.members[a]), b: set(self.members.get(b, ()))}
        between = sum(
            cost
            for region in sides[b]
            for near, cost in self.graph[region].items()
            if self.own[near] == a
        )
        moves, gain = self._best_moves(a, b, sides)
        if sides[b] and between > max(gain, 0) + LEAST_GAIN:
            self._move(sorted(sides[b]), a)
        elif gain > LEAST_GAIN:
            for region in moves:
                self._move([region], b if self.own[region] == a else a)
        else:
            return False
        self.changed |= {a, b}
        return True

    def _best_moves(self, a: int, b: int, sides: dict[int, set[int]]) -> tuple[list[int], float]:
        """Return the greedy sequence of moves up to its greatest gain, and that gain."""
        side = {region: one for one, members in sides.items() for region in members}
        alone = not sides[b]
        gains = {
            region: sum(
                cost if side[near] != side[region] else -cost
                for near, cost in self.graph[region].items()
                if near in side
            )
            for region in side
        }
        waiting = [
            (-gains[region], region)
            for region in side
            if alone
            or any(side.get(near, side[region]) != side[region] for near in self.graph[region])
        ]
        heapify(waiting)
        moves, total, best, kept = list[int](), 0.0, 0.0, 0
        moved = set[int]()
        while waiting:
            falling, region = heappop(waiting)
            if region in moved or gains[region] != -falling:
                continue
            total += gains[region]
            moved.add(region)
            moves.append(region)
            side[region] = b if side[region] == a else a
            for near, cost in self.graph[region].items():
                if near in side and near not in moved:
                    gains[near] += 2 * cost if side[near] != side[region] else -2 * cost
                    heappush(waiting, (-gains[near], near))
            if total > best + LEAST_GAIN:
                best, kept = total, len(moves)
        return moves[:kept], best

    def _move(self, regions: list[int], to: int) -> None:
        for region in regions:
            self.members[self.own[region]].discard(region)
            self.members.setdefault(to, set()).add(region)
            self.own[region] = to


MULTICUT = Recipe(
    name="multicut",
    what="boundaries of cells that fill the image: superpixels, and the cheapest cut between them",
    source="Keuper et al. 2015, doi 10.1109/ICCV.2015.204; PlantSeg, Wolny et al. 2020",
    label=label_multicut,
    in_blocks=InBlocks(far_seeing=True),
    tiles=GASP.tiles,
    settings=MulticutSettings,
)
"""Alternative label recipe for PlantSeg's boundary maps."""

"""The cheapest cut of small graphs is known, and walls part rooms where they are likely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.process.ideal_maps import boundary, cells, filling

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.gasp import Borders
from bmz.process.matching import match_labels
from bmz.process.multicut import (
    MulticutSettings,
    costs_of,
    joined_greedily,
    label_multicut,
    refined,
)

ALL: dict[str, Any] = {"superpixel_size": 0, "min_size": 0}
SEEDS = st.integers(0, 2**32 - 1)


def random_graph(seed: int, regions: int) -> tuple[Borders, FloatArray]:
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, regions, (2, 3 * regions))
    borders = Borders.of(ends[0], ends[1], np.ones(3 * regions), np.ones(3 * regions))
    return borders, rng.normal(0, 1, len(borders.first))


def cut(borders: Borders, costs: FloatArray, number: AnyArray) -> float:
    return float(costs[number[borders.first] != number[borders.second]].sum())


def partitions(count: int) -> Iterator[list[int]]:
    """Give every way to part so many regions into objects."""
    if count == 0:
        yield []
        return
    for rest in partitions(count - 1):
        for own in range(max(rest, default=-1) + 2):
            yield [*rest, own]


def test_of_most_small_graphs_the_cheapest_cut_is_found() -> None:
    found = 0
    for seed in range(30):
        borders, costs = random_graph(seed, 6)
        number = refined(borders, costs, joined_greedily(borders, costs, 6))

        best = min(cut(borders, costs, np.array(some)) for some in partitions(6))
        found += cut(borders, costs, number) < best + 1e-9

    assert found >= 27


@settings(max_examples=40)
@given(SEEDS)
def test_the_refinement_makes_no_cut_dearer_whatever_it_begins_with(seed: int) -> None:
    borders, costs = random_graph(seed, 25)
    rng = np.random.default_rng(seed)

    for begin in (joined_greedily(borders, costs, 25), rng.integers(0, 9, 25), np.arange(25)):
        after = refined(borders, costs, begin)

        assert cut(borders, costs, after) <= cut(borders, costs, begin) + 1e-9
        assert sorted(set(after.tolist())) == list(range(after.max() + 1))


def test_a_region_moves_to_the_object_that_it_belongs_to() -> None:
    first, second = np.array([0, 1, 2, 0]), np.array([1, 2, 3, 3])
    borders, costs = Borders(first, second, np.ones(4), np.ones(4)), np.array([5.0, 1.0, 3.0, -4.0])
    begin = np.array([0, 0, 0, 1])

    better = refined(borders, costs, begin)

    assert cut(borders, costs, begin) == -1
    assert better.tolist() == [0, 0, 1, 1]
    assert cut(borders, costs, better) == -3


def test_costs_are_log_odds_times_the_length() -> None:
    borders = Borders(
        np.array([0, 1]), np.array([1, 2]), np.array([1.0, 2.0]), np.array([4.0, 2.0])
    )

    low, high = costs_of(borders, 0.5)
    biased, _ = costs_of(borders, 0.8)

    assert low == pytest.approx(4 * np.log(3), rel=0.01)
    assert high < -2 * 6
    assert biased == pytest.approx(low + 4 * np.log(0.25))


@pytest.mark.parametrize(("beta", "objects"), [(0.35, 1), (0.45, 2)])
def test_rooms_are_parted_where_the_wall_is_more_likely_than_not(beta: float, objects: int) -> None:
    wall = np.zeros((1, 20, 40), np.float32)
    wall[0, :, 19:21] = 0.6

    found = label_multicut(wall, (1, 1), MulticutSettings(beta=beta, **ALL))

    assert found.labels.max() == objects


def test_cells_come_back_from_boundaries_with_noise() -> None:
    truth = filling(cells(7, 200, 5))
    noise = np.random.default_rng(0).normal(0, 0.05, truth.shape)
    maps = (boundary(truth) + noise).clip(0, 1).astype(np.float32)[None]

    found = label_multicut(maps, (1, 1), MulticutSettings(superpixel_size=20))

    assert match_labels(found.labels, truth, 0.5).f1 >= 0.95

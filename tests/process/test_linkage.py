"""Average linkage on graphs of regions, and the recipe ``gasp`` that uses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.io import imread
from skimage.measure import label
from skimage.segmentation import watershed

from bmz.base.arrays import AnyArray
from bmz.process.gasp import Borders, GaspSettings, label_gasp, merged, touching
from bmz.process.matching import match_labels


def one_after_the_other(borders: Borders, regions: int, most: float) -> AnyArray:
    """Join the two with the lowest mean border, again and again."""
    number = np.arange(regions)
    while len(borders.first):
        mean = borders.total / borders.count
        lowest = np.lexsort([borders.second, borders.first, mean])[0]
        if mean[lowest] >= most:
            break
        into = np.arange(regions)
        into[borders.second[lowest]] = borders.first[lowest]
        number, borders = into[number], borders.renumbered(into)
    return np.unique(number, return_inverse=True)[1]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_regions_joined_at_once_are_those_joined_one_after_the_other(
    seed: int, most: float
) -> None:
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, 12, (2, 40))
    borders = Borders.of(ends[0], ends[1], rng.random(40), np.ones(40))

    found = merged(borders, 12, most)

    np.testing.assert_array_equal(found, one_after_the_other(borders, 12, most))


def test_borders_are_the_means_of_both_sides_of_each_face() -> None:
    labels = np.array([[1, 1, 2], [3, 3, 2], [0, 3, 2]])
    values = np.arange(9.0).reshape(3, 3)

    borders = touching(labels, values)

    pairs = list(zip(borders.first, borders.second, borders.total, borders.count, strict=True))
    assert pairs == [(0, 1, 1.5, 1), (0, 2, 1.5 + 2.5, 2), (1, 2, 4.5 + 7.5, 2)]


def test_regions_that_touch_nothing_stay() -> None:
    nothing = touching(np.array([[1, 0, 2]]), np.ones((1, 3)))

    assert merged(nothing, 2, 1.0).tolist() == [0, 1]


def membranes(shared: Path, number: str) -> tuple[AnyArray, AnyArray]:
    """Give the true cells, grown until they touch, and a soft map of their membranes."""
    inside = imread(shared / f"data/isbi2012/membranes/{number}.png") > 127
    cells = watershed(~inside, label(inside, connectivity=1))
    return cells, ndimage.gaussian_filter((~inside).astype(np.float32), 1)


@pytest.mark.parametrize("number", ["00", "15", "29"])
def test_cells_of_real_membranes_are_found(number: str, shared: Path) -> None:
    truth, boundary = membranes(shared, number)

    found = label_gasp(boundary[None], (1, 1), GaspSettings()).labels

    assert match_labels(found, truth, 0.5).f1 >= 0.85


def test_beta_decides_how_much_stays_apart(shared: Path) -> None:
    _, boundary = membranes(shared, "07")

    counts = [
        label_gasp(boundary[None], (1, 1), GaspSettings(beta=beta)).labels.max()
        for beta in (0, 0.5, 1)
    ]

    assert counts[0] < counts[1] < counts[2]


def test_a_weak_gap_in_a_membrane_does_not_join_two_cells() -> None:
    boundary = np.zeros((40, 60), np.float32)
    boundary[:, 29:31] = 0.9
    boundary[18:22, 29:31] = 0.1

    assert label_gasp(boundary[None], (1, 1), GaspSettings()).labels.max() == 2
    boundary[:, 29:31] = 0.3
    assert label_gasp(boundary[None], (1, 1), GaspSettings()).labels.max() == 1


def test_a_stack_is_parted_too() -> None:
    boundary = np.zeros((12, 30, 30), np.float32)
    boundary[:, 14:16] = 1
    boundary[5:7] = 1

    labels = label_gasp(boundary[None], (1, 1, 1), GaspSettings()).labels

    assert labels.max() == 4
    assert labels.min() == 1


def test_a_map_whose_peaks_lie_on_the_boundary_has_objects() -> None:
    gaps = np.array([[[0.75, 0, 0.75, 0, 0.75]]], np.float32)

    done = label_gasp(gaps, (1, 1), GaspSettings(superpixel_size=5, min_size=5))

    assert done.labels.shape == (1, 5)
    assert done.labels.min() == 1


def test_entries_of_a_pair_are_added_up_in_either_order_and_those_with_itself_left_out() -> None:
    one, other = np.array([3, 0, 2, 3, 0]), np.array([0, 3, 2, 1, 1])
    total, count = np.array([0.5, 0.25, 9, 4, 1]), np.array([1.0, 2, 5, 3, 1])

    found = Borders.of(one, other, total, count)

    assert found.first.tolist() == [0, 0, 1]
    assert found.second.tolist() == [1, 3, 3]
    assert found.total.tolist() == [1, 0.75, 4]
    assert found.count.tolist() == [1, 3, 3]


def chain(*means: float) -> Borders:
    """Give regions in a row, with such borders between neighbours."""
    numbers = np.arange(len(means))
    return Borders.of(numbers, numbers + 1, np.array(means), np.ones(len(means)))


@pytest.mark.parametrize(
    ("means", "most", "number"),
    [
        ((0.5, 0.4), 0.5, [0, 1, 1]),  # not below: a border at the limit stays
        ((0.5, 0.4), 0.6, [0, 0, 0]),
        ((0.1, 0.9, 0.1), 0.5, [0, 0, 1, 1]),
        ((0.1, 0.3, 0.2, 0.9), 0.35, [0, 0, 0, 0, 1]),
        ((0.0, 0.0), 0.0, [0, 1, 2]),
    ],
)
def test_a_chain_is_joined_below_the_limit(
    means: tuple[float, ...], most: float, number: list[int]
) -> None:
    assert merged(chain(*means), len(number), most).tolist() == number


def test_the_border_of_a_joined_region_is_the_mean_of_all_its_values() -> None:
    # 0 and 1 are joined; their borders to 2 are 1 value of 0.9 and 3 of 0.1: 0.3 in the mean
    ends = np.array([[0, 0, 1], [1, 2, 2]])
    count = np.array([1.0, 1, 3])
    borders = Borders.of(ends[0], ends[1], np.array([0.0, 0.9, 3 * 0.1]), count)
    even = Borders.of(ends[0], ends[1], np.array([0, 0.9, 0.9]), count)

    assert merged(borders, 3, 0.31).tolist() == [0, 0, 0]
    assert merged(borders, 3, 0.29).tolist() == [0, 0, 1]
    assert merged(even, 3, 0.46).tolist() == [0, 0, 0]
    assert merged(even, 3, 0.44).tolist() == [0, 0, 1]


def test_sums_of_small_integers_do_not_wrap() -> None:
    borders = touching(np.array([[1, 2]]), np.array([[200, 250]], np.uint8))

    assert borders.total.tolist() == [225.0]


def test_regions_of_a_stack_touch_along_z_too() -> None:
    labels = np.array([[[1, 1]], [[2, 0]]])
    values = np.array([[[1.0, 5]], [[3.0, 7]]])

    borders = touching(labels, values)

    assert (borders.first.tolist(), borders.second.tolist()) == ([0], [1])
    assert (borders.total.tolist(), borders.count.tolist()) == ([2.0], [1.0])

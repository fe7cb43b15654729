from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import watershed

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.process import distance_watershed
from bmz.process.distance_watershed import flooded
from bmz.process.distance_watershed import watershed as by_height

Flooding = Callable[..., AnyArray]
BOTH = pytest.mark.parametrize("flood", [flooded, by_height])


def lakes(seed: int, shape: tuple[int, ...]) -> tuple[FloatArray, LabelArray]:
    """Give a map of heights that all differ, and seeds of some pixels anywhere."""
    rng = np.random.default_rng(seed)
    surface = (rng.permutation(int(np.prod(shape))) / np.prod(shape)).reshape(shape)
    seeds = np.where(rng.random(shape) < 0.1, rng.integers(1, 9, shape), 0).astype(np.int32)
    return surface.astype(np.float32), seeds


@BOTH
@pytest.mark.parametrize("shape", [(40, 60), (9, 14, 22), (1, 30), (30, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_map_of_distinct_heights_is_flooded_as_by_skimage(
    shape: tuple[int, ...], seed: int, flood: Flooding
) -> None:
    surface, seeds = lakes(seed, shape)
    mask = np.random.default_rng(seed).random(shape) < 0.8
    seeds *= mask

    np.testing.assert_array_equal(flood(surface, seeds), watershed(surface, seeds))
    np.testing.assert_array_equal(flood(surface, seeds, mask), watershed(surface, seeds, mask=mask))


@BOTH
def test_on_a_plateau_seeds_meet_in_the_middle(flood: Flooding) -> None:
    seeds = np.zeros((9, 21), np.int32)
    seeds[4, 2], seeds[4, 18] = 1, 2

    labels = flood(np.full(seeds.shape, 0.7, np.float32), seeds)

    assert (labels[:, :10] == 1).all()
    assert (labels[:, 11:] == 2).all()


@BOTH
def test_the_lowest_way_wins_over_the_shortest(flood: Flooding) -> None:
    surface = np.full((3, 5), 0.1, np.float32)
    surface[1, :4] = 1
    surface[2, 1] = 0.8
    seeds = np.zeros(surface.shape, np.int32)
    seeds[0, 0], seeds[2, 0] = 1, 2

    labels = flood(surface, seeds)

    assert labels[0].tolist() == [1, 1, 1, 1, 1]
    assert labels[2].tolist() == [2, 2, 1, 1, 1]


@BOTH
def test_what_lies_beyond_the_ridge_of_a_region_is_not_taken_by_it(flood: Flooding) -> None:
    surface = np.array([[0, 0.5, 0.9, 0.1, 0.1, 0.1, 0.2, 0]], np.float32)
    seeds = np.array([[1, 1, 1, 0, 0, 0, 2, 2]])

    assert flood(surface, seeds).tolist() == [[1, 1, 1, 2, 2, 2, 2, 2]]


@BOTH
def test_what_no_seed_reaches_stays_background(flood: Flooding) -> None:
    mask = np.array([[True, True, False, True]])
    seeds = np.array([[1, 0, 5, 0]])

    labels = flood(np.zeros((1, 4)), seeds, mask)

    assert labels.tolist() == [[1, 1, 0, 0]]
    assert flood(np.zeros((0, 4)), np.zeros((0, 4), int)).shape == (0, 4)


@BOTH
@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_what_is_no_number_is_flooded_last(strange: float, flood: Flooding) -> None:
    surface = np.array([[0, strange, 0.2, 0.9, 0.1, 0]], np.float32)
    seeds = np.array([[1, 0, 0, 0, 0, 2]])

    assert flood(surface, seeds).tolist() == [[1, 1, 2, 2, 2, 2]]


@BOTH
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_heights_beyond_1_are_told_apart_as_well(scale: float, flood: Flooding) -> None:
    surface, seeds = lakes(3, (30, 30))

    np.testing.assert_array_equal(flood(scale * surface - scale / 2, seeds), flood(surface, seeds))


@BOTH
def test_a_part_is_flooded_like_the_whole(flood: Flooding) -> None:
    surface, seeds = lakes(4, (40, 40))
    surface[:, :20] *= 0.3  # a part knows nothing of the highest place of the whole
    mask = np.ones(surface.shape, np.bool_)
    mask[:, 20] = False
    part: tuple[AnyArray, ...] = (surface[:, :20], seeds[:, :20], mask[:, :20])

    np.testing.assert_array_equal(flood(*part), flood(surface, seeds, mask)[:, :20])


def flooded_pixel_by_pixel(surface: AnyArray, seeds: AnyArray, mask: AnyArray) -> AnyArray:
    """Flood as scikit-image 0.26 does, with seeds of the same height in raster order."""
    labels = np.where(mask, seeds, 0)
    queue = [(surface[place], 0, place) for place in zip(*np.nonzero(labels), strict=True)]
    heapq.heapify(queue)
    came = 0
    while queue:
        height, _, (y, x) = heapq.heappop(queue)
        for beside in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            is_there = 0 <= beside[0] < labels.shape[0] and 0 <= beside[1] < labels.shape[1]
            if is_there and mask[beside] and labels[beside] == 0:
                came += 1
                labels[beside] = labels[y, x]
                heapq.heappush(queue, (max(height, surface[beside]), came, beside))
    return labels


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 6, 1000]), st.sampled_from([4, 8, 512]))
def test_of_equal_heights_what_came_first_is_flooded_first(
    seed: int, heights: int, window: int
) -> None:
    rng = np.random.default_rng(seed)
    surface = (rng.integers(-heights, heights, (23, 31)) / 3).astype(np.float32)
    seeds = np.where(rng.random(surface.shape) < 0.05, rng.integers(1, 9, surface.shape), 0)
    mask = rng.random(surface.shape) < 0.9

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distance_watershed, "WINDOW", window)
        patch.setattr(distance_watershed, "MARGIN", 1)
        labels = by_height(surface, seeds, mask)

    np.testing.assert_array_equal(labels, flooded_pixel_by_pixel(surface, seeds, mask))


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 6, 1000]))
def test_levels_are_flooded_window_by_window_as_in_one_piece(seed: int, heights: int) -> None:
    rng = np.random.default_rng(seed)
    surface = (rng.integers(0, heights + 1, (23, 31)) / heights).astype(np.float32)
    seeds = np.where(rng.random(surface.shape) < 0.05, rng.integers(1, 9, surface.shape), 0)
    mask = rng.random(surface.shape) < 0.9
    whole = flooded(surface, seeds, mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distance_watershed, "WINDOW", 8)
        patch.setattr(distance_watershed, "FLOOD_MARGIN", 1)
        labels = flooded(surface, seeds, mask)

    np.testing.assert_array_equal(labels, whole)


def test_zeros_of_both_signs_are_equally_high() -> None:
    surface = np.array([[0.5, -0.0, 0.0, 0.0, -0.0, 0.5]], np.float32)
    seeds = np.array([[1, 0, 0, 0, 0, 2]])

    assert by_height(surface, seeds).tolist() == [[1, 1, 1, 2, 2, 2]]


def test_a_stack_is_flooded_window_by_window_as_in_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    surface, seeds = lakes(5, (7, 40, 50))
    seeds[:, :30] = 0  # so that windows have none
    whole = by_height(surface, seeds)

    monkeypatch.setattr(distance_watershed, "WINDOW", 16)
    monkeypatch.setattr(distance_watershed, "MARGIN", 2)

    np.testing.assert_array_equal(by_height(surface, seeds), whole)
    np.testing.assert_array_equal(whole, watershed(surface, seeds))


@pytest.mark.parametrize("leave_some", [True, False])
@pytest.mark.parametrize("shape", [(40, 60), (9, 14, 22)])
def test_pixels_of_small_regions_are_flooded_from_the_others(
    shape: tuple[int, ...], *, leave_some: bool
) -> None:
    surface, seeds = lakes(0, shape)
    seeds *= np.arange(1, seeds.size + 1, dtype=np.int32).reshape(shape)
    first = flooded(surface, seeds)
    size = np.bincount(first.reshape(-1))
    least = int(np.median(size[size > 0])) + 1
    large = np.where(size[first] >= least, first, 0)

    labels = flooded(surface, seeds, least=least, leave_some=leave_some)
    none = flooded(surface, seeds, least=seeds.size, leave_some=leave_some)

    assert 1 < len(np.unique(large)) < len(np.unique(first))
    np.testing.assert_array_equal(labels, flooded(surface, large))
    np.testing.assert_array_equal(none, first if leave_some else 0 * first)

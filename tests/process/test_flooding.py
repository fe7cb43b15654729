from __future__ import annotations

import numpy as np
import pytest
from skimage.segmentation import watershed

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.process.distance_watershed import flooded


def lakes(seed: int, shape: tuple[int, ...]) -> tuple[FloatArray, LabelArray]:
    """Give a map of heights that all differ, and seeds of some pixels anywhere."""
    rng = np.random.default_rng(seed)
    surface = (rng.permutation(int(np.prod(shape))) / np.prod(shape)).reshape(shape)
    seeds = np.where(rng.random(shape) < 0.1, rng.integers(1, 9, shape), 0).astype(np.int32)
    return surface.astype(np.float32), seeds


@pytest.mark.parametrize("shape", [(40, 60), (9, 14, 22), (1, 30), (30, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_map_of_distinct_heights_is_flooded_as_by_skimage(
    shape: tuple[int, ...], seed: int
) -> None:
    surface, seeds = lakes(seed, shape)
    mask = np.random.default_rng(seed).random(shape) < 0.8
    seeds *= mask

    np.testing.assert_array_equal(flooded(surface, seeds), watershed(surface, seeds))
    np.testing.assert_array_equal(
        flooded(surface, seeds, mask), watershed(surface, seeds, mask=mask)
    )


def test_on_a_plateau_seeds_meet_in_the_middle() -> None:
    seeds = np.zeros((9, 21), np.int32)
    seeds[4, 2], seeds[4, 18] = 1, 2

    labels = flooded(np.full(seeds.shape, 0.7, np.float32), seeds)

    assert (labels[:, :10] == 1).all()
    assert (labels[:, 11:] == 2).all()


def test_the_lowest_way_wins_over_the_shortest() -> None:
    surface = np.full((3, 5), 0.1, np.float32)
    surface[1, :4] = 1
    surface[2, 1] = 0.8
    seeds = np.zeros(surface.shape, np.int32)
    seeds[0, 0], seeds[2, 0] = 1, 2

    labels = flooded(surface, seeds)

    assert labels[0].tolist() == [1, 1, 1, 1, 1]
    assert labels[2].tolist() == [2, 2, 1, 1, 1]


def test_what_lies_beyond_the_ridge_of_a_region_is_not_taken_by_it() -> None:
    surface = np.array([[0, 0.5, 0.9, 0.1, 0.1, 0.1, 0.2, 0]], np.float32)
    seeds = np.array([[1, 1, 1, 0, 0, 0, 2, 2]])

    assert flooded(surface, seeds).tolist() == [[1, 1, 1, 2, 2, 2, 2, 2]]


def test_what_no_seed_reaches_stays_background() -> None:
    mask = np.array([[True, True, False, True]])
    seeds = np.array([[1, 0, 5, 0]])

    labels = flooded(np.zeros((1, 4)), seeds, mask)

    assert labels.tolist() == [[1, 1, 0, 0]]
    assert flooded(np.zeros((0, 4)), np.zeros((0, 4), int)).shape == (0, 4)


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_what_is_no_number_is_flooded_last(strange: float) -> None:
    surface = np.array([[0, strange, 0.2, 0.9, 0.1, 0]], np.float32)
    seeds = np.array([[1, 0, 0, 0, 0, 2]])

    assert flooded(surface, seeds).tolist() == [[1, 1, 2, 2, 2, 2]]


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_heights_beyond_1_are_told_apart_as_well(scale: float) -> None:
    surface, seeds = lakes(3, (30, 30))

    np.testing.assert_array_equal(
        flooded(scale * surface - scale / 2, seeds), flooded(surface, seeds)
    )


def test_a_part_is_flooded_like_the_whole() -> None:
    surface, seeds = lakes(4, (40, 40))
    surface[:, :20] *= 0.3  # a part knows nothing of the highest place of the whole
    mask = np.ones(surface.shape, np.bool_)
    mask[:, 20] = False
    part: tuple[AnyArray, ...] = (surface[:, :20], seeds[:, :20], mask[:, :20])

    np.testing.assert_array_equal(flooded(*part), flooded(surface, seeds, mask)[:, :20])

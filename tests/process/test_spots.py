"""Peaks of a heat map become discs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import peak_local_max

from bmz.base.arrays import FloatArray
from bmz.process.recipe import Labelled
from bmz.process.recipes import RECIPES
from bmz.process.relabel import ChannelsDiffer
from bmz.process.spots import discs_around, peaks_of

SPOTS = RECIPES["spots"]


def labelled(heat: FloatArray, **words: str) -> Labelled:
    grid = (1,) * heat.ndim
    return SPOTS.apply(heat[None], grid, SPOTS.parameters_from({}, words))


def heat_of(shape: tuple[int, ...], seed: int) -> FloatArray:
    noise = np.random.default_rng(seed).random(shape)
    smooth: FloatArray = ndimage.gaussian_filter(noise, 1.5).astype(np.float32)
    highest: FloatArray = smooth / smooth.max()
    return highest


@pytest.mark.parametrize("shape", [(60, 70), (9, 30, 40)])
@pytest.mark.parametrize("apart", [1, 3])
def test_spots_lie_at_the_local_maxima_of_scikit_image(shape: tuple[int, ...], apart: int) -> None:
    heat = heat_of(shape, 1)
    peaks = peak_local_max(heat, min_distance=apart, threshold_abs=0.8, exclude_border=False)

    result = labelled(heat, threshold="0.8", min_distance=str(apart), radius="0")

    found = np.argwhere(result.labels)
    # it drops one of two that are as high, and looks within a cube as we do
    assert {tuple(at) for at in peaks} == {tuple(at) for at in found}
    assert len(peaks) > 3


def test_a_pixel_of_two_discs_belongs_to_the_nearer_spot() -> None:
    heat = np.zeros((11, 20), np.float32)
    heat[5, 6], heat[5, 11] = 0.9, 0.8

    result = labelled(heat, radius="4")

    assert result.labels[5, 2:16].tolist() == [1] * 7 + [2] * 7
    assert result.scores is not None
    assert result.scores.tolist() == pytest.approx([0.9, 0.8])


def test_a_plateau_is_one_spot() -> None:
    heat = np.zeros((11, 20), np.float32)
    heat[4:7, 4:7] = 0.9

    assert labelled(heat).labels.max() == 1


def test_noise_is_smoothed_before_peaks_are_sought() -> None:
    heat = np.zeros((21, 21), np.float32)
    heat[10, 8], heat[10, 12] = 0.9, 0.9

    apart = labelled(heat, threshold="0.01")
    together = labelled(heat, threshold="0.01", sigma="3")

    assert (apart.labels.max(), together.labels.max()) == (2, 1)


def test_what_is_no_number_is_no_spot() -> None:
    heat = np.full((9, 9), np.nan, np.float32)
    heat[4, 4] = 0.9

    assert labelled(heat).labels.max() == 1


def test_an_output_without_that_channel_is_refused() -> None:
    with pytest.raises(ChannelsDiffer):
        labelled(np.zeros((5, 5), np.float32), channel="1")


@pytest.mark.parametrize("shape", [(1, 1), (40, 50), (12, 20, 22)])
@pytest.mark.parametrize("radius", [0, 1.5, 3, 60])
@pytest.mark.parametrize("share", [0.001, 0.04])
def test_discs_are_those_of_the_distance_transform_also_where_two_are_equally_near(
    share: float, radius: float, shape: tuple[int, ...]
) -> None:
    there = np.random.default_rng(0).random(shape) < share
    there.reshape(-1)[0] = True
    numbers = np.where(there, np.cumsum(there).reshape(shape), 0)

    discs = discs_around(numbers, radius)

    away, nearest = ndimage.distance_transform_edt(~there, return_indices=True)
    expected = np.where(away <= radius, numbers[tuple(nearest)], 0)
    np.testing.assert_array_equal(discs, expected)


@pytest.mark.parametrize("shape", [(1, 1), (40, 50), (12, 20, 22)])
@pytest.mark.parametrize("apart", [1, 2, 30])
@pytest.mark.parametrize("threshold", [0.2, 0.9])
def test_peaks_are_as_high_as_all_around_also_where_few_entries_are_above_the_threshold(
    threshold: float, apart: int, shape: tuple[int, ...]
) -> None:
    heat = np.random.default_rng(1).random(shape, np.float32).round(2)

    peaks = peaks_of(heat, threshold, apart)

    highest = ndimage.maximum_filter(heat, 2 * apart + 1)
    np.testing.assert_array_equal(peaks, (heat > threshold) & (heat == highest))

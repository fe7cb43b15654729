"""Peaks that rise far enough, against the transform they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import disk, h_maxima

from bmz.base.arrays import AnyArray
from bmz.process.distance_watershed import prominent_peaks


def hills(seed: int, shape: tuple[int, ...] = (40, 50)) -> AnyArray:
    noise = np.random.default_rng(seed).random(shape)
    smooth: AnyArray = ndimage.gaussian_filter(noise, 2) * 50
    return smooth.astype(np.float32)


def unequal_hills(seed: int) -> AnyArray:
    # scikit-image takes heights within 2e-6 of each other for equal: no two are, as ranks
    heights = hills(seed)
    return np.argsort(np.argsort(heights, axis=None)).reshape(heights.shape).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.floats(20, 600), st.sampled_from([1, 2]))
@example(58962, 160.0, 1)
def test_peaks_are_the_h_maxima(seed: int, rise: float, radius: int) -> None:
    surface = unequal_hills(seed)
    footprint = np.ones((3, 3)) if radius == 1 else disk(radius)

    peaks = prominent_peaks(surface, rise, radius)

    marked = label(h_maxima(surface, rise, footprint=footprint))
    assert peaks.max() == marked.max()
    assert np.unique(marked[peaks > 0]).tolist() == list(range(1, marked.max() + 1))


def test_peaks_of_a_stack_are_found() -> None:
    surface = hills(3, (9, 20, 20))

    peaks = prominent_peaks(surface, 1.0)

    assert peaks.max() == label(h_maxima(surface, 1.0, footprint=np.ones((3, 3, 3)))).max() > 1


def test_of_equal_peaks_that_meet_the_first_stays() -> None:
    surface = np.array([[1, 5, 4, 5, 1, 5, 1]], np.float32)

    assert np.argwhere(prominent_peaks(surface, 2.0)).tolist() == [[0, 1], [0, 5]]


def test_a_mask_parts_hills() -> None:
    surface = np.array([[3, 4, 3, 5, 3]], np.float32)
    mask = np.array([[True, True, False, True, True]])

    assert prominent_peaks(surface, 3.0).max() == 1
    assert prominent_peaks(surface, 3.0, mask=mask).tolist() == [[0, 1, 0, 2, 0]]


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (0, 4)])
def test_a_flat_map_has_one_peak_if_it_has_a_pixel(shape: tuple[int, int]) -> None:
    peaks = prominent_peaks(np.zeros(shape, np.float32), 1.0)

    assert peaks.shape == shape
    assert peaks.max(initial=0) == min(np.prod(shape), 1)

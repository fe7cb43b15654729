from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage as ndi

from bmz.check.blurs import BLOCK, REACH, blurred, doubled, laplacian

Plane = NDArray[np.float32]


@st.composite
def planes(draw: st.DrawFn) -> Plane:
    """Draw planes of one block and of several, some with flat parts."""
    height, width = draw(st.tuples(st.integers(2, 40), st.integers(2, 40)))
    tall, broad = draw(st.sampled_from([(1, 1), (1, 20), (16, 10)]))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    plane = random.normal(size=(height * tall, width * broad)).astype(np.float32)
    return np.clip(plane, draw(st.sampled_from([-9, 0.5])), None)


@given(plane=planes(), sigma=st.floats(0.2, 4))
def test_the_blur_is_that_of_scipy(plane: Plane, sigma: float) -> None:
    expected = ndi.gaussian_filter(plane, sigma, truncate=REACH, mode="nearest")

    np.testing.assert_allclose(blurred(plane, sigma), expected, rtol=1e-5, atol=2e-6)


def test_rows_wider_than_a_block_are_blurred_too() -> None:
    plane = np.random.default_rng(0).normal(size=(3, BLOCK + 5)).astype(np.float32)

    expected = ndi.gaussian_filter(plane, 1.3, truncate=REACH, mode="nearest")

    np.testing.assert_allclose(blurred(plane, 1.3), expected, rtol=1e-5, atol=2e-6)


@given(plane=planes(), factor=st.floats(-9, 9))
def test_the_laplacian_is_four_neighbours_less_four_times_the_pixel(
    plane: Plane, factor: float
) -> None:
    p = np.pad(plane, 1, mode="edge")
    neighbours = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2]

    found = laplacian(plane, factor)

    np.testing.assert_allclose(found, factor * (neighbours - 4 * plane), rtol=1e-5, atol=5e-5)


@given(plane=planes())
def test_a_doubled_plane_is_zoomed_by_two(plane: Plane) -> None:
    expected = ndi.zoom(plane, 2, order=1, mode="nearest", grid_mode=True)

    np.testing.assert_allclose(doubled(plane), expected, rtol=1e-5, atol=1e-6)


def test_blurring_and_doubling_give_rows_that_lie_one_after_the_other() -> None:
    plane = np.zeros((30, 50), np.float32)

    assert blurred(plane, 1.0).flags.c_contiguous
    assert doubled(plane).flags.c_contiguous


@given(plane=planes())
def test_the_plane_is_left_as_it_was(plane: Plane) -> None:
    before = plane.copy()

    blurred(plane, 1.0)
    laplacian(plane, -2.0)
    doubled(plane)

    np.testing.assert_array_equal(plane, before)

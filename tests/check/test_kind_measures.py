"""Measures of the kind beside what a plain sum over pixels gives for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as ndi

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.kind_features import LEAST_PX, features, measured_features
from bmz.check.kind_greys import flat_features
from bmz.check.kind_levels import (
    SIDE_PX,
    block_means,
    plane_level,
)
from bmz.check.kind_texture import _bent, correlation_with_itself, product_with_itself

COLOURS = 33
"""Features of colours, which are NaN of a grey plane."""

STEPS = [(0, 1), (1, 0), (0, 4), (4, 0), (3, 3), (3, -3), (1, -2)]


@st.composite
def planes(draw: st.DrawFn) -> FloatArray:
    """Draw planes of noise, some of which are smooth."""
    random = np.random.default_rng(draw(st.integers(0, 999)))
    plane = random.normal(size=(draw(st.integers(6, 40)), draw(st.integers(6, 40))))
    smooth: FloatArray = ndi.gaussian_filter(plane, draw(st.sampled_from([0, 1])))
    return smooth.astype(np.float32)


def pair(plane: FloatArray, y: int, x: int) -> tuple[FloatArray, FloatArray]:
    """Give pixels, and those a step away."""
    height, width = plane.shape
    right = slice(max(x, 0), width + min(x, 0)), slice(max(-x, 0), width + min(-x, 0))
    return plane[y:, right[0]], plane[: height - y, right[1]]


@pytest.mark.parametrize(("y", "x"), STEPS)
@given(plane=planes())
def test_pixels_are_multiplied_with_those_a_step_away_in_their_own_row(
    plane: FloatArray, y: int, x: int
) -> None:
    one, other = pair(plane, y, x)

    assert product_with_itself(plane, y, x) == pytest.approx((one * other).mean(), abs=1e-5)


@pytest.mark.parametrize(("y", "x"), [(0, 1), (1, 0)])
@given(plane=planes())
def test_neighbours_correlate_as_two_planes_do(plane: FloatArray, y: int, x: int) -> None:
    centred = plane - plane.mean()
    one, other = pair(centred, y, x)

    found = correlation_with_itself(centred, y, x)

    assert found == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1], abs=1e-3)


def test_neighbours_in_a_flat_plane_do_not_correlate() -> None:
    assert correlation_with_itself(np.zeros((20, 30), np.float32), 0, 1) == 0


@given(plane=planes())
def test_the_curvature_is_that_of_the_hessian_and_0_between_rows(plane: FloatArray) -> None:
    p = plane.astype(float)
    yy = p[2:, 1:-1] + p[:-2, 1:-1] - 2 * p[1:-1, 1:-1]
    xx = p[1:-1, 2:] + p[1:-1, :-2] - 2 * p[1:-1, 1:-1]
    yx = (p[2:, 2:] + p[:-2, :-2] - p[2:, :-2] - p[:-2, 2:]) / 4
    values = np.linalg.eigvalsh(np.stack([yy, yx, yx, xx], -1).reshape(*yy.shape, 2, 2))
    order = np.argsort(np.abs(values), axis=-1)
    small, large = np.moveaxis(np.take_along_axis(values, order, -1), -1, 0)

    found = [np.pad(part, (0, 2)).reshape(len(yy), -1) for part in _bent(plane)]

    np.testing.assert_allclose(found[0][:, :-2] / 2, np.abs(large), atol=1e-4)
    np.testing.assert_allclose(found[1][:, :-2] / 2, small * np.sign(large), atol=1e-4)
    np.testing.assert_array_equal(found[0][:, -2:], 0)
    np.testing.assert_array_equal(found[1][:, -2:], 0)


@pytest.mark.parametrize("side", [LEAST_PX, 2 * LEAST_PX - 1, 2 * LEAST_PX, 3 * SIDE_PX])
def test_texture_is_told_of_planes_of_any_side_from_the_least(side: int) -> None:
    plane = np.random.default_rng(0).random((LEAST_PX, side), np.float32)

    told = measured_features(plane)

    assert told is not None
    assert np.isfinite(told).sum() == told.size - COLOURS
    assert measured_features(plane[:-1]) is None


@given(plane=planes())
def test_a_level_is_smoothed_by_binomials(plane: FloatArray) -> None:
    level = plane_level(plane)

    smooth = plane.astype(float)
    for axis in (0, 1):
        smooth = ndi.correlate1d(smooth, np.array([1, 4, 6, 4, 1]) / 16, axis, mode="nearest")
    wider = smooth
    for axis in (0, 1):
        weights = np.array([1, 0, 4, 0, 6, 0, 4, 0, 1]) / 16
        wider = ndi.correlate1d(wider, weights, axis, mode="nearest")
    np.testing.assert_allclose(level.smooth, smooth, atol=1e-5)
    np.testing.assert_allclose(level.band, smooth - wider, atol=1e-5)


@given(plane=planes(), block=st.integers(1, 6))
def test_blocks_have_the_mean_of_their_pixels(plane: FloatArray, block: int) -> None:
    rows, columns = (side // block for side in plane.shape)
    blocks = plane[: rows * block, : columns * block].reshape(rows, block, columns, block)

    np.testing.assert_allclose(block_means(plane, block), blocks.mean((1, 3)), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.bool_])
def test_equal_neighbours_are_counted_at_either_end_and_between(dtype: type) -> None:
    raw: AnyArray = np.random.default_rng(0).integers(0, 5, (300, 301)).astype(dtype)
    here = raw[:-1, :-1]
    equal = (here == raw[1:, :-1]) & (here == raw[:-1, 1:]) & (here == raw[1:, 1:])
    low, high = 0.4, 0.9 if dtype is np.bool_ else 3.5

    found = flat_features(raw, low, high)

    parts = (equal & (here <= low), equal & (here >= high), equal & (here > low) & (here < high))
    np.testing.assert_allclose(found, [part.mean() for part in parts])


@pytest.mark.parametrize("shape", [(200, 260), (1100, 1060)])
def test_whole_numbers_have_the_features_of_the_same_fractions(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).normal(100, 20, shape)
    plane = np.clip(noise + 60 * np.hypot(*np.indices(shape)) / 500, 0, 255).astype(np.uint8)

    whole, fractions = features(plane), features(plane.astype(np.float64))

    assert whole is not None
    np.testing.assert_array_equal(whole, fractions)

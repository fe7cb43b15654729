"""The steps of a survey, each beside what SciPy gives for it in one call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage as ndi

from bmz.base.arrays import AnyArray
from bmz.check import blobs
from bmz.check.blobs import (
    DIAMETER_OF_SIGMA,
    FAINT,
    LEAST_PX,
    LEAST_SIDE,
    STENCIL_VARIANCE,
    Level,
    Octave,
    _around,
    _tops,
    blobs_of,
    levels_of_enlarged,
    octaves,
    stretched,
    tops_of,
)
from bmz.check.blurs import REACH, laplacian
from bmz.check.kind_levels import halved
from bmz.check.object_size import Cut, cut_of, response_skew, survey
from bmz.check.pixel_values import sorted_finite

Plane = NDArray[np.float32]

SIGNS = pytest.mark.parametrize("sign", [1, -1], ids=["bright", "dark"])


@st.composite
def planes(draw: st.DrawFn) -> Plane:
    """Draw smooth planes and noisy ones, some with a plateau."""
    random = np.random.default_rng(draw(st.integers(0, 999)))
    shape = draw(st.tuples(st.integers(LEAST_SIDE, 50), st.integers(LEAST_SIDE, 50)))
    plane = ndi.gaussian_filter(random.normal(size=shape), draw(st.sampled_from([0, 1, 3])))
    unit: Plane = np.clip(plane / np.abs(plane).max(), None, 0.6).astype(np.float32)
    return unit


def first(plane: Plane) -> Octave:
    return next(octaves(plane))


@pytest.mark.parametrize("together", [0, blobs.TOGETHER])
@given(plane=planes())
def test_a_top_is_a_maximum_over_three_levels_and_nine_pixels(plane: Plane, together: int) -> None:
    stack = first(plane).responses
    most = ndi.maximum_filter(stack, 3, mode="nearest")
    least = ndi.minimum_filter(stack, 3, mode="nearest")
    marks = ((stack == most) & (stack > FAINT)) | ((stack == least) & (stack < -FAINT))

    marks[[0, -1]] = False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "TOGETHER", together)
        tops = _tops(stack)

    np.testing.assert_array_equal(np.stack(tops), np.stack(np.nonzero(marks)))


@given(plane=planes())
def test_the_surroundings_of_every_pixel_are_those_of_the_padded_plane(plane: Plane) -> None:
    both = np.stack([plane, -plane])
    k, y, x = (at.ravel() for at in np.indices(both.shape))
    padded = np.pad(both, ((0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))

    found = _around(both, k, y, x)

    np.testing.assert_array_equal(found, windows.reshape(-1, 3, 3).transpose(1, 2, 0))


@given(plane=planes())
def test_small_levels_are_blurred_by_matrices_as_large_ones_by_sums(plane: Plane) -> None:
    found = first(plane)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "SMALL_SIDE", 0)
        expected = first(plane)

    np.testing.assert_allclose(found.blurred, expected.blurred, atol=1e-6)
    np.testing.assert_allclose(found.responses, expected.responses, atol=2e-5)


@given(plane=planes())
def test_a_level_finer_than_the_finest_tells_only_of_blobs_that_are_left_out(plane: Plane) -> None:
    found = survey(plane)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "FINEST", 0)
        whole, expected = blobs_of(tops_of(first(plane))), survey(plane)

    shown = blobs_of(tops_of(first(plane)))
    kept = whole[whole[:, 0] >= LEAST_PX]
    np.testing.assert_array_equal(shown[shown[:, 0] >= LEAST_PX], kept)
    assert (found and found.peak) == (expected and expected.peak)


@given(plane=planes())
def test_levels_that_are_reckoned_together_have_the_responses_of_each(plane: Plane) -> None:
    octave = first(plane)
    factors = -np.arange(1.0, len(octave.blurred) + 1)

    both = laplacian(octave.blurred, factors)

    for image, factor, response in zip(octave.blurred, factors, both, strict=True):
        np.testing.assert_array_equal(response, laplacian(image, factor))


@given(plane=planes())
def test_the_negative_has_the_same_blobs_with_the_other_sign(plane: Plane) -> None:
    upright, negative = blobs_of(tops_of(first(plane))), blobs_of(tops_of(first(-plane)))

    np.testing.assert_array_equal(negative, upright * [1, -1])


def test_a_round_blob_is_found_at_its_diameter() -> None:
    y, x = np.mgrid[:41, :41] - 20.0
    plane = np.exp(-(y**2 + x**2) / (2 * 1.4**2)).astype(np.float32)

    blobs = blobs_of(tops_of(first(plane)))

    diameter, energy = blobs[np.abs(blobs[:, 1]).argmax()]
    assert energy > 0
    assert diameter == pytest.approx(DIAMETER_OF_SIGMA * 1.4, rel=0.1)


@SIGNS
@given(plane=planes(), k=st.sampled_from([1, 3]))
def test_a_cut_is_the_median_part_by_energy(plane: Plane, k: int, sign: int) -> None:
    level = first(plane).level(k)
    labels, count = ndi.label(sign * level.response > 0)
    areas = ndi.sum_labels(np.ones(plane.shape), labels, range(1, count + 1))
    energies = ndi.sum_labels(level.response.astype(float) ** 2, labels, range(1, count + 1))

    found = cut_of(level, sign)

    area = np.pi * (found.diameter_px / 2) ** 2
    smaller, larger = energies[areas < area - 0.5].sum(), energies[areas > area + 0.5].sum()
    assert np.isclose(areas, area).any()
    assert max(smaller, larger) <= energies.sum() / 2 * (1 + 1e-6)
    assert found.parts == (areas > area * (1 + 1e-9) / 3).sum()


@SIGNS
def test_a_flat_response_has_no_parts(sign: int) -> None:
    level = Level(1.0, 2.0, np.zeros((20, 20), np.float32))

    assert cut_of(level, sign) == Cut(2.0, 0.0, 0)
    assert response_skew(level) is None


@given(plane=planes())
def test_the_skewness_is_the_third_moment_over_the_second(plane: Plane) -> None:
    level = first(plane).level(1)
    response = level.response.astype(float)

    found = response_skew(level, least_samples=0)

    assert found == pytest.approx((response**3).mean() / (response**2).mean() ** 1.5, abs=1e-4)


@given(plane=planes())
def test_dark_parts_are_the_bright_ones_of_the_negative(plane: Plane) -> None:
    level, negative = (first(image).level(1) for image in (plane, -plane))

    assert cut_of(level, -1) == cut_of(negative, 1)


@given(plane=planes())
def test_a_plane_is_halved_by_the_means_of_two_by_two_pixels(plane: Plane) -> None:
    height, width = (side // 2 for side in plane.shape)
    boxes = plane[: 2 * height, : 2 * width].reshape(height, 2, width, 2)

    np.testing.assert_allclose(halved(plane), boxes.mean((1, 3), dtype=float), atol=1e-6)


@given(plane=planes())
def test_an_enlarged_plane_arrives_with_the_blur_of_one_of_its_pixels(plane: Plane) -> None:
    twice = plane
    for step in (2**0.25, 2**0.5):
        more = np.sqrt(step**2 - (step / 2**0.25) ** 2)
        twice = ndi.gaussian_filter(twice, more, truncate=REACH, mode="nearest")

    fine, coarse = levels_of_enlarged(plane, (1, 3), 0.5)

    assert (fine.pixel, coarse.pixel) == (0.5, 0.5)
    for level, image, blur in ((fine, plane, 1.0), (coarse, twice, 2**0.5)):
        variance = blur**2 + STENCIL_VARIANCE
        assert level.sigma == pytest.approx(np.sqrt(variance) / 2)
        np.testing.assert_allclose(level.response, laplacian(image, -variance), atol=1e-5)


@given(plane=planes())
def test_a_known_order_changes_nothing_in_a_stretch(plane: Plane) -> None:
    found, expected = stretched(plane, sorted_finite(plane)), stretched(plane)

    np.testing.assert_array_equal(found, expected)


@given(plane=planes(), holes=st.integers(0, 3))
def test_a_stretch_is_clipped_between_its_percentiles(plane: Plane, holes: int) -> None:
    plane.ravel()[:holes] = np.nan
    low, middle, high = np.nanpercentile(plane.astype(float), [0.2, 50, 99.8])
    filled = np.where(np.isnan(plane), middle, plane)

    found = stretched(plane)

    assert found is not None
    np.testing.assert_allclose(found, np.clip((filled - low) / (high - low), -0.5, 1.5), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("most", [40, 255])
def test_few_levels_are_stretched_as_pixels_are(dtype: type, most: int) -> None:
    levels: AnyArray = np.random.default_rng(0).integers(0, most, (30, 50)).astype(dtype)
    levels[3, 4] = most

    found, expected = stretched(levels), stretched(levels.astype(np.float64))

    np.testing.assert_array_equal(found, expected)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as some
from numpy.typing import NDArray

from bmz.base.arrays import FEW, median
from bmz.check.pixel_values import (
    _brightest,
    bits,
    contrast,
    mean_and_deviation,
    median_filled,
    noise_level,
    outliers,
    percentiles,
    saturation,
    sorted_finite,
)

Plane = NDArray[Any]

NUMBERS = st.sampled_from([np.uint8, np.int8, np.uint16, np.int32, np.float32, np.float64])


def within(dtype: Any) -> dict[str, Any]:
    """Keep fractions far from where a difference overflows; whole numbers may be any."""
    if np.issubdtype(dtype, np.integer):
        return {}
    return {"min_value": -(2.0**40), "max_value": 2.0**40, "allow_subnormal": False}


PLANES = NUMBERS.flatmap(
    lambda dtype: some.arrays(dtype, st.tuples(*[st.integers(3, 12)] * 2), elements=within(dtype))
)
HOLED = some.arrays(
    np.float64,
    st.tuples(*[st.integers(3, 12)] * 2),
    elements=st.floats(-1000, 1000, allow_subnormal=False)
    | st.sampled_from([np.nan, np.inf, -np.inf]),
).filter(lambda plane: bool(np.isfinite(plane).any()))


@given(plane=PLANES)
def test_the_order_holds_every_value_in_its_dtype(plane: Plane) -> None:
    order = sorted_finite(plane)

    assert order.dtype == plane.dtype
    np.testing.assert_array_equal(order, np.sort(plane, axis=None))


@given(plane=PLANES)
def test_mean_and_deviation_are_those_of_all_values(plane: Plane) -> None:
    mean, deviation = mean_and_deviation(sorted_finite(plane))

    values = plane.astype(np.float64)
    assert mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9)
    assert deviation == pytest.approx(values.std(), rel=1e-9, abs=1e-9 * np.abs(values).max())


@given(plane=HOLED)
def test_values_that_are_no_numbers_are_not_in_the_order(plane: Plane) -> None:
    np.testing.assert_array_equal(sorted_finite(plane), np.sort(plane[np.isfinite(plane)]))


@given(plane=PLANES, share=st.floats(0, 100))
def test_percentiles_are_those_of_numpy(plane: Plane, share: float) -> None:
    values = plane.astype(float)

    (found,) = percentiles(sorted_finite(plane), (share,))

    assert found == pytest.approx(np.percentile(values, share), abs=1e-12 * abs(values).max())


@given(plane=HOLED)
def test_missing_values_count_as_the_median(plane: Plane) -> None:
    finite = np.isfinite(plane)
    filled = np.where(finite, plane, np.median(plane[finite]))

    found = median_filled(sorted_finite(plane), plane.size)

    # the median of -1000 and 1000 is 0 but for rounding
    np.testing.assert_allclose(found, np.sort(filled, axis=None), atol=1e-9)


@given(plane=PLANES | HOLED)
def test_an_order_given_changes_no_answer(plane: Plane) -> None:
    order = sorted_finite(plane)

    for ask in (outliers, saturation, contrast, bits):
        assert ask(plane, order) == ask(plane)


@given(plane=PLANES)
def test_the_range_without_outliers_is_that_of_the_other_pixels(plane: Plane) -> None:
    values = plane.astype(float)
    values[1, 1] = 2 * abs(values).max() + 1000
    rest = values.copy()
    rest[1, 1] = np.percentile(values, 50)

    found = outliers(values)

    assert found.highest == values.max()
    assert found.highest_without == (rest.max() if found.pixels else values.max())


@given(plane=PLANES)
def test_pixels_at_the_top_and_in_the_bright_half_are_counted(plane: Plane) -> None:
    values = plane.astype(float)
    top = values.max()
    bright = (values >= (top + np.median(values)) / 2).sum()

    found = saturation(plane)

    assert found.pixels == (values == top).sum()
    flat = values.min() == top
    assert found.share_of_bright == (0 if flat else pytest.approx(found.pixels / bright))


@given(plane=some.arrays(np.uint16, (6, 7)), factor=st.integers(1, 3))
def test_the_step_divides_every_grey_level(plane: Plane, factor: int) -> None:
    levels = plane // 4 * factor

    found = bits(levels)

    assert found is not None
    assert found.step == (np.gcd.reduce(np.unique(levels)) or 1)


@given(plane=PLANES)
def test_of_equal_bright_pixels_the_first_are_asked(plane: Plane) -> None:
    order = sorted_finite(plane)
    few = min(3, plane.size)

    y, x = _brightest(plane, order[-few], few)

    assert len({*zip(y.tolist(), x.tolist(), strict=True)}) == few
    np.testing.assert_array_equal(np.sort(plane[y, x]), order[-few:])


@given(plane=some.arrays(np.uint16, some.array_shapes(min_dims=2, max_dims=2, min_side=2)))
def test_the_noise_of_whole_numbers_is_that_of_the_same_fractions(plane: Plane) -> None:
    for dtype in (np.uint16, np.int16, np.uint8):
        whole = plane.astype(dtype)

        assert noise_level(whole) == noise_level(whole.astype(np.float64))


@given(
    values=some.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.integers(1, 9) | st.integers(FEW - 1, FEW + 2),
        elements=st.floats(-1000, 1000, width=32, allow_subnormal=False) | st.just(np.nan),
    )
)
def test_a_median_is_that_of_numpy(values: Plane) -> None:
    np.testing.assert_array_equal(median(values), float(np.median(values)))


def test_there_is_no_median_of_nothing() -> None:
    assert np.isnan(median(np.zeros(0)))

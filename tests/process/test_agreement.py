from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmz.process.consensus import ShapeDiffers, compare
from bmz.spec.model import Tolerance

EXACT = Tolerance(absolute=0.0, relative=0.0, mismatched_per_million=0)


def array(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float64)


def test_an_element_at_the_tolerance_agrees_and_one_beyond_does_not() -> None:
    tolerance = Tolerance(absolute=0.5, relative=0.25, mismatched_per_million=0)

    at = compare(array(5.5), array(4.0), "x", tolerance)
    beyond = compare(array(5.75), array(4.0), "x", tolerance)

    assert at.within
    assert not beyond.within
    assert beyond.mismatched_per_million == 1e6


def test_the_relative_tolerance_is_of_the_wanted_value_not_of_the_found_one() -> None:
    tolerance = Tolerance(absolute=0.0, relative=0.5, mismatched_per_million=0)

    assert compare(array(5.0), array(10.0), "x", tolerance).within
    assert not compare(array(10.0), array(5.0), "x", tolerance).within


@pytest.mark.parametrize(("allowed", "within"), [(999, False), (1000, True)])
def test_so_many_mismatched_elements_per_million_are_allowed(allowed: int, *, within: bool) -> None:
    wanted = np.zeros((10, 100))
    found = wanted.copy()
    found[3, 7] = 1

    agreement = compare(found, wanted, "yx", Tolerance(mismatched_per_million=allowed))

    assert agreement.mismatched_per_million == pytest.approx(1000)
    assert agreement.within is within


def test_it_tells_the_largest_difference_and_where_it_is() -> None:
    wanted = np.zeros((2, 3), np.uint8)
    found = np.array([[0, 1, 0], [0, 0, -4]], np.int16)

    agreement = compare(found, wanted, "cx", EXACT)

    assert (agreement.largest, agreement.actual, agreement.expected) == (4, -4, 0)
    assert agreement.where == {"c": 1, "x": 2}
    assert "c=1 x=2" in str(agreement)


def test_what_is_no_number_agrees_only_with_the_like() -> None:
    loose = Tolerance(absolute=1e9, relative=1.0, mismatched_per_million=0)
    same = array(math.nan, math.inf, -math.inf)

    assert compare(same, same, "x", EXACT).within
    for found, wanted in ((math.nan, 0), (0, math.nan), (math.inf, -math.inf), (math.inf, 1)):
        agreement = compare(array(found), array(wanted), "x", loose)
        assert agreement.largest == math.inf
        assert not agreement.within


def test_other_shapes_are_never_broadcast() -> None:
    with pytest.raises(ShapeDiffers) as caught:
        compare(np.zeros((1, 3)), np.zeros((2, 3)), "yx", EXACT, name="mask")

    assert "'mask' has shape (1, 3), wanted (2, 3)" in caught.value.message


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=st.floats(-1e3, 1e3, width=32)),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_it_mismatches_what_numpy_mismatches(
    wanted: np.ndarray[Any, Any], absolute: float, relative: float
) -> None:
    found = wanted + np.linspace(-2, 2, wanted.size, dtype=np.float32).reshape(wanted.shape)
    tolerance = Tolerance(absolute, relative, mismatched_per_million=0)

    agreement = compare(found, wanted, "zyx"[: wanted.ndim], tolerance)

    close = np.isclose(found.astype(float), wanted.astype(float), rtol=relative, atol=absolute)
    assert agreement.mismatched_per_million == pytest.approx(1e6 * (~close).mean())

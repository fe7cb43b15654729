"""Parts of masks and blurred lines: what SciPy gives, without SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from bmz.base.arrays import AnyArray, BoolArray
from bmz.check.blurs import blurred_line
from bmz.check.connected import Parts, parts_of

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))


def labels_of(mask: BoolArray, parts: Parts) -> AnyArray:
    """Draw the parts as SciPy numbers them."""
    labels = np.zeros(mask.shape, int)
    labels[mask] = np.repeat(parts.part + 1, parts.lengths)
    return labels


@given(MASKS)
def test_parts_and_their_order_are_those_of_scipy(mask: BoolArray) -> None:
    wanted, count = ndimage.label(mask)

    parts = parts_of(mask)

    assert parts.count == count
    assert np.array_equal(labels_of(mask, parts), wanted)


@given(MASKS)
def test_areas_and_sums_are_those_of_scipys_labels(mask: BoolArray) -> None:
    labels, count = ndimage.label(mask)
    values = np.arange(mask.size).reshape(mask.shape) * mask

    parts = parts_of(mask)

    numbers = np.arange(1, count + 1)
    assert parts.areas().tolist() == ndimage.sum(mask, labels, numbers).tolist()
    assert parts.sums_of(values).tolist() == ndimage.sum(values, labels, numbers).tolist()


def test_a_spiral_is_one_part() -> None:
    spiral = np.zeros((33, 33), np.bool_)
    for ring in range(0, 16, 2):
        spiral[ring, ring : 33 - ring] = spiral[ring : 33 - ring, 32 - ring] = True
        spiral[32 - ring, ring : 33 - ring] = spiral[ring + 2 : 33 - ring, ring] = True
        spiral[ring + 2, ring : ring + 3] = True

    assert parts_of(spiral).count == ndimage.label(spiral)[1] == 1


@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1e6)),
    st.floats(0.3, 9),
)
def test_a_line_is_blurred_as_by_scipy_to_the_last_bit(line: AnyArray, sigma: float) -> None:
    wanted = ndimage.gaussian_filter1d(line, sigma, mode="constant")

    assert np.array_equal(blurred_line(line, sigma), wanted)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_an_empty_mask_has_no_parts(shape: tuple[int, int]) -> None:
    parts = parts_of(np.zeros(shape, np.bool_))

    assert (parts.count, parts.areas().size) == (0, 0)

"""Resizing keeps place, range and numbers, and a part is that part of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize

from bmz.base.boxes import boxes
from bmz.process.resize import resize_image, resize_labels, resized_labels_part, resized_part


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_labels_grown_by_a_whole_factor_are_each_repeated(
    height: int, width: int, factor: int
) -> None:
    labels = np.arange(height * width).reshape(height, width)

    grown = resize_labels(labels, (height * factor, width * factor))

    assert np.array_equal(grown, np.kron(labels, np.ones((factor, factor), int)))


@given(st.integers(1, 30), st.integers(1, 30))
def test_resized_labels_hold_no_new_numbers(old: int, new: int) -> None:
    labels = np.random.default_rng(0).integers(0, 9, (old, old))

    assert set(np.unique(resize_labels(labels, (new, new)))) <= set(np.unique(labels))


def test_a_resized_image_keeps_its_range_and_its_place() -> None:
    x = np.zeros((1, 40, 40), np.uint16)
    x[:, 20:, :] = 1000

    small = resize_image(x, (10, 20))

    assert small.shape == (1, 10, 20)
    assert small.dtype == np.float32
    assert small[0, 0, 0] < 1
    assert small[0, -1, 0] > 999


@pytest.mark.parametrize("new", [(30, 41), (61, 83), (7, 160), (40, 50), (1, 1), (100, 20)])
def test_an_image_is_resized_as_scikit_image_does(new: tuple[int, int]) -> None:
    x = np.random.default_rng(0).random((2, 40, 50)).astype(np.float32)

    found = resize_image(x, new)

    for plane, wanted in zip(found, x, strict=True):
        np.testing.assert_allclose(plane, resize(wanted, new, order=1), rtol=0, atol=1e-5)


def test_a_stack_is_resized_along_all_axes() -> None:
    x = np.random.default_rng(0).random((1, 9, 40, 50)).astype(np.float32)

    found = resize_image(x, (18, 30, 20))

    np.testing.assert_allclose(found[0], resize(x[0], (18, 30, 20), order=1), rtol=0, atol=1e-5)


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(sizes, sizes, st.integers(1, 20))
def test_parts_of_an_image_are_those_of_the_whole(
    old: tuple[int, int], new: tuple[int, int], side: int
) -> None:
    x = np.random.default_rng(0).integers(0, 1000, (2, *old)).astype(np.uint16)
    whole = resize_image(x, new)

    for box in boxes(new, (side, side)):
        part = resized_part(lambda seen: x[(slice(None), *seen)], old, new, box)
        np.testing.assert_allclose(part, whole[(slice(None), *box)], rtol=0, atol=1e-2)


@given(sizes, sizes, st.integers(1, 20))
def test_parts_of_labels_are_those_of_the_whole(
    old: tuple[int, int], new: tuple[int, int], side: int
) -> None:
    labels = np.random.default_rng(0).integers(0, 50, old)
    whole = resize_labels(labels, new)

    for box in boxes(new, (side, side)):
        part = resized_labels_part(labels.__getitem__, old, new, box)
        assert np.array_equal(part, whole[box])

"""Resizing keeps place, range and numbers, and a part is that part of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize

from bmz.base.arrays import AnyArray
from bmz.base.axes import boxes
from bmz.process.adapt import resize_image, resize_labels, resized_labels_part, resized_part


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_labels_grown_by_a_whole_factor_are_each_repeated(
    height: int, width: int, factor: int
) -> None:
    labels = np.arange(height * width).reshape(height, width)

    grown = resize_labels(labels, (height * factor, width * factor))

    assert np.array_equal(grown, np.kron(labels, np.ones((factor, factor), int)))


@pytest.mark.parametrize("factor", [3, 5])
def test_the_outline_of_labels_that_grow_is_that_of_the_object_and_no_stairs(factor: int) -> None:
    y, x = np.indices((40, 40)) + 0.5
    disc = (np.hypot(y - 20, x - 20) < 12).astype(np.uint8)
    y, x = (np.indices((40 * factor, 40 * factor)) + 0.5) / factor
    truth = np.hypot(y - 20, x - 20) < 12

    grown = resize_labels(disc, truth.shape) > 0

    stairs = np.kron(disc, np.ones((factor, factor), np.uint8)) > 0
    assert (grown != truth).sum() < 0.85 * (stairs != truth).sum()


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


@pytest.mark.parametrize(
    ("old", "new", "taken"),
    [(3, 2, [0, 2]), (5, 2, [1, 3]), (2, 5, [0, 0, 1, 1, 1]), (4, 1, [2]), (1, 3, [0, 0, 0])],
)
def test_a_resized_pixel_is_the_one_in_which_its_centre_lies(
    old: int, new: int, taken: list[int]
) -> None:
    labels = np.arange(old, dtype=np.uint16)[None].repeat(2, 0)

    found = resize_labels(labels, (2, new))

    assert found.tolist() == [taken, taken]
    assert found.dtype == np.uint16


def test_an_image_that_keeps_its_size_is_only_cast() -> None:
    x = np.array([[[0, 65535], [7, 3]]], np.uint16)

    found = resize_image(x, (2, 2))

    assert found.tolist() == x.tolist()
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("old", "new", "wanted", "most"),
    # 10 px of a doubled image are 5 px and a neighbour on both sides; the Gaussian of a shrunk
    # one, 1.5 px wide at a factor of 4, ends after 4 times that
    [(100, 200, slice(80, 90), 9), (400, 100, slice(50, 51), 17), (100, 100, slice(3, 9), 6)],
)
def test_a_part_is_resized_from_hardly_more_than_what_it_shows(
    old: int, new: int, wanted: slice, most: int
) -> None:
    x, seen = np.arange(old, dtype=np.float32)[None, None], list[tuple[slice, ...]]()

    def read(box: tuple[slice, ...]) -> AnyArray:
        seen.append(box)
        return x[(slice(None), *box)]

    part = resized_part(read, (1, old), (1, new), (slice(0, 1), wanted))

    (along,) = [box[1] for box in seen]
    assert along.stop - along.start <= most
    # away from its ends a ramp stays the same ramp
    middles = (np.arange(wanted.start, wanted.stop) + 0.5) * old / new - 0.5
    np.testing.assert_allclose(part[0, 0], middles, atol=1e-3)

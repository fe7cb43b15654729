"""Images become what a network takes, and its outputs come back; no value wraps on the way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.process.adapt import (
    cast_within_range,
    clip_channels,
    from_layout,
    grid_of,
    stack_unique,
    take_channels,
    to_layout,
)


def test_channels_are_taken_in_the_order_asked_for_and_none_is_zeros() -> None:
    x = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)

    taken = take_channels(x, (1, -1, 0))

    assert taken.tolist() == [x[1].tolist(), [[0, 0], [0, 0]], x[0].tolist()]


@given(st.permutations("bcyx"), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
def test_a_layout_and_back_gives_the_same_array(
    layout: list[str], channels: int, height: int, width: int
) -> None:
    x = np.arange(channels * height * width).reshape(channels, height, width)
    word = "".join(layout)

    back, axes = from_layout(to_layout(x, "cyx", word), word)

    assert axes == "cyx"
    assert np.array_equal(back, x)


def test_a_tensor_without_a_channel_axis_gets_one() -> None:
    back, axes = from_layout(np.zeros((1, 4, 5)), "byx")

    assert (back.shape, axes) == ((1, 4, 5), "cyx")


def test_a_cast_to_integers_cuts_instead_of_wrapping() -> None:
    wide = np.array([0, 255, 256, 70000], np.int64)
    real = np.array([-1.0, 0.4, 0.6, 300.0])

    assert cast_within_range(wide, "uint8").tolist() == [0, 255, 255, 255]
    assert cast_within_range(real, "uint8").tolist() == [0, 0, 1, 255]


def test_the_grid_of_an_output_that_rounds_up_is_still_whole() -> None:
    assert grid_of((50, 31), {"y": 99, "x": 61}) == (2, 2)
    assert grid_of((99, 61), {"y": 99, "x": 61}) == (1, 1)


def test_no_label_stands_for_objects_of_two_planes() -> None:
    planes = [np.array([[1, 2]]), np.array([[0, 0]]), np.array([[1, 0]])]

    assert stack_unique(planes).tolist() == [[[1, 2]], [[0, 0]], [[3, 0]]]


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.mark.parametrize("wanted", INTEGERS)
@pytest.mark.parametrize("dtype", [*INTEGERS, "float16", "float32", "float64"])
def test_what_an_integer_cannot_hold_becomes_its_lowest_or_highest(dtype: str, wanted: str) -> None:
    real = dtype.startswith("float")
    ends = np.finfo(dtype) if real else np.iinfo(dtype)
    x = np.array([ends.min, 0, 1, 100, ends.max], dtype)

    found = cast_within_range(x, wanted)

    # Python's own whole numbers have no ends
    low, high = int(np.iinfo(wanted).min), int(np.iinfo(wanted).max)
    assert found.dtype == wanted
    assert [int(n) for n in found] == [min(max(int(n), low), high) for n in x]


def test_a_cast_that_loses_nothing_keeps_halves_and_truths() -> None:
    halves = np.array([0.25, -0.5], np.float32)

    assert cast_within_range(halves, "float64").tolist() == [0.25, -0.5]
    assert cast_within_range(halves.astype(np.float64), "float32").tolist() == [0.25, -0.5]
    assert cast_within_range(np.array([0, 2], np.uint8), "bool").tolist() == [False, True]
    assert cast_within_range(np.array([True]), "int8").tolist() == [1]


def test_halves_are_rounded_to_the_even_number() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)

    assert cast_within_range(x, "int8").tolist() == [0, 2, 2, 0, -2]


def test_each_channel_is_cut_at_a_value_of_its_own() -> None:
    x = np.array([[[1, 2, 3, 200]], [[10, 20, 30, 40]]], np.uint8)

    cut = clip_channels(x, 75)

    assert cut.tolist() == [[[1, 2, 3, 3]], [[10, 20, 30, 30]]]
    assert cut.dtype == np.uint8
    assert clip_channels(x, 100).tolist() == x.tolist()
    assert clip_channels(x, 0).tolist() == [[[1] * 4], [[10] * 4]]


def test_axes_of_one_entry_that_the_layout_lacks_are_dropped_and_absent_ones_added() -> None:
    x = np.arange(6).reshape(1, 2, 1, 3)

    laid = to_layout(x, "tczx", "bxyc")

    assert laid.shape == (1, 3, 1, 2)
    assert laid[0, :, 0].tolist() == x[0, :, 0].T.tolist()


def test_an_axis_of_several_entries_is_never_dropped() -> None:
    with pytest.raises(ValueError, match="size not equal to one"):
        to_layout(np.zeros((2, 3, 4)), "zyx", "byx")


@pytest.mark.parametrize(
    ("layout", "axes", "shape"),
    [
        ("bxy", "cyx", (1, 4, 5)),
        ("tyx", "tcyx", (1, 1, 4, 5)),
        ("izyx", "czyx", (1, 1, 4, 5)),
        ("xcby", "cyx", (3, 4, 5)),
    ],
)
def test_a_tensor_comes_back_in_the_order_of_images(
    layout: str, axes: str, shape: tuple[int, ...]
) -> None:
    sizes = {"b": 1, "i": 1, "t": 1, "z": 1, "c": 3, "y": 4, "x": 5}

    back, found = from_layout(np.zeros([sizes[axis] for axis in layout]), layout)

    assert (found, back.shape) == (axes, shape)


@pytest.mark.parametrize(
    ("output", "size", "grid"), [(33, 100, 3), (40, 100, 2), (100, 50, 1), (1, 1, 1), (25, 100, 4)]
)
def test_the_grid_is_the_nearest_whole_number_and_never_below_1(
    output: int, size: int, grid: int
) -> None:
    assert grid_of((output, 7), {"y": size, "x": 7}) == (grid, 1)

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bmz.process.adapt import (
    cast_within_range,
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

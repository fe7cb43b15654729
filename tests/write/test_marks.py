"""What is written on pictures: numbers of objects, the plane, a scale bar."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.image.pixels import Pixels
from bmz.write.marks import _letters, scale_bar
from bmz.write.overlay import Drawing, drawn, overlay
from bmz.write.result import Overview

WHITE = [255, 255, 255]


def plane(array: AnyArray, pixel_um: float | None = None) -> Pixels:
    um = {} if pixel_um is None else {"y": pixel_um, "x": pixel_um}
    return Pixels(array, ("y", "x"), um)


def ground(shape: tuple[int, int], kind: str) -> AnyArray:
    """Give a black, a white or a noisy picture; two pixels keep it from being stretched."""
    pixels = np.full(shape, kind == "white", np.float32)
    if kind == "noise":
        pixels = np.random.default_rng(0).random(shape, np.float32)
    pixels[0, :2] = 0, 1
    return pixels


def bar_px(picture: AnyArray) -> int:
    """Give the length of the white line that has black above, below and at both ends."""
    white, black = (picture == 255).all(-1), (picture == 0).all(-1)
    right = picture.shape[1] - 10
    longest = 0
    for y in np.flatnonzero(white[:, right - 1]):
        begin = right - int(np.argmin(white[y, :right][::-1]))
        if black[y, begin - 1] and black[y, right]:
            longest = max(longest, right - begin)
    return longest


@settings(max_examples=40, deadline=None)
@given(
    st.floats(1e-3, 1e3),
    st.tuples(st.integers(150, 1500), st.integers(150, 1500)),
    st.sampled_from(["black", "white", "noise"]),
)
def test_a_scale_bar_is_as_long_as_it_says_to_a_pixel_on_any_ground(
    pixel_um: float, shape: tuple[int, int], kind: str
) -> None:
    labels = np.zeros(shape, np.int32)

    picture = overlay(plane(ground(shape, kind), pixel_um), plane(labels))

    um_of_picture = pixel_um * shape[1] / picture.shape[1]
    bar = scale_bar(picture.shape[1] * um_of_picture / 4)
    assert bar is not None
    assert abs(bar_px(picture) - bar[0] / um_of_picture) <= 1
    assert picture.shape[1] / 12 < bar_px(picture) <= picture.shape[1] / 4 + 1


@given(st.floats(1e-3, 1e6))
def test_a_scale_bar_has_a_round_length_in_a_unit_that_keeps_it_short(longest_um: float) -> None:
    bar = scale_bar(longest_um)

    assert bar is not None
    number, unit = bar[1].split()
    assert number.rstrip("0") in {"1", "2", "5"}
    assert len(number) <= 4
    assert float(number) * {"nm": 1e-3, "µm": 1, "mm": 1e3}[unit] == pytest.approx(bar[0])
    assert longest_um / 2.6 < bar[0] <= longest_um


@pytest.mark.parametrize("longest_um", [0.0, 1e-4, 1e7])
def test_a_bar_that_no_microscope_needs_is_not_drawn(longest_um: float) -> None:
    assert scale_bar(longest_um) is None


def test_without_a_pixel_size_nothing_is_drawn_and_a_bar_is_left_out_where_it_does_not_fit() -> (
    None
):
    labels = plane(np.zeros((500, 500), int))
    low = np.zeros((10, 1024))

    assert not overlay(plane(np.zeros((500, 500))), labels).any()
    assert not overlay(plane(low, 1.0), plane(low.astype(int))).any()


def holds(picture: AnyArray, words: str, top: int, left: int) -> bool:
    """Say whether words stand in white at a place."""
    letters = _letters(words, 2)
    there = (picture[top : top + letters.shape[0], left : left + letters.shape[1]] == WHITE).all(-1)
    return np.array_equal(there, letters)


def test_a_picture_of_a_stack_says_which_plane_it_is() -> None:
    labels = np.zeros((3, 5, 500, 500), np.int32)
    labels[1, 2, 300:400, 300:400] = 1
    image = np.zeros((3, 5, 500, 500), np.uint8)

    picture = overlay(Pixels(image, tuple("tzyx")), Pixels(labels, tuple("tzyx")))

    assert picture.shape[0] == 1000
    assert holds(picture, "t=1 of 0-2, z=2 of 0-4", 990 - 14, 10)


def test_the_number_of_each_object_is_written_on_it() -> None:
    labels = np.zeros((1000, 1000), np.int32)
    labels[100:200, 100:220], labels[300:420, 500:600] = 7, 1203
    labels[700:703, 700:702] = 12  # too small for its number
    image = plane(ground((1000, 1000), "black"))

    picture = drawn(Overview(image, plane(labels)), Drawing(numbers=True))
    plain = drawn(Overview(image, plane(labels)))

    assert holds(picture, "7", 149 - 7, 159 - 5)
    assert holds(picture, "1203", 359 - 7, 549 - _letters("1203", 2).shape[1] // 2)
    changed = (picture != plain).any(-1)
    assert not changed[690:, 690:].any()
    assert changed[100:200, 100:220].any()


@pytest.mark.parametrize("side", [256, 700, 2500])
def test_a_line_on_a_white_object_has_a_dark_rim_on_either_side(side: int) -> None:
    labels = np.zeros((side, side), np.int32)
    labels[side // 4 : side // 2, side // 4 : side // 2] = 1
    hot = np.where(labels > 0, 255, 40).astype(np.uint8)
    hot[: side // 10] = 0  # so that the ground is grey

    picture = overlay(plane(hot), plane(labels)).astype(int)

    along = picture[picture.shape[0] * 3 // 8].sum(-1)
    line = np.flatnonzero(np.ptp(picture[picture.shape[0] * 3 // 8], axis=-1) > 50)
    first = line[line < picture.shape[1] * 3 // 8]
    assert len(first) == 2
    assert along[first[-1] + 1] < 0.4 * 3 * 255  # white without it
    assert along[first[0] - 1] < 0.5 * along[first[0] - 2]

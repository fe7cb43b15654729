"""The colours in which pixels and outlines are shown, by number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmz.base.arrays import AnyArray
from bmz.image.pixels import Pixels
from bmz.write.overlay import outline_colours, overlay
from bmz.write.shown import in_colour, nearest, shrunk, stretched

# Okabe and Ito, "Color Universal Design", as published: 0 to 255
ORANGE, SKY, GREEN, YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)
BLUE, VERMILLION, PURPLE, BLACK = (0, 114, 178), (213, 94, 0), (204, 121, 167), (0, 0, 0)
ON_DARK = (YELLOW, SKY, ORANGE, GREEN, PURPLE, VERMILLION)
ON_BRIGHT = (BLUE, VERMILLION, GREEN, PURPLE, BLACK, ORANGE)

GAMMA = 0.75


def array(pixels: Any, axes: str = "yx") -> Pixels:
    return Pixels(np.asarray(pixels), tuple(axes))


def mosaic(numbers: Any, side: int = 9) -> AnyArray:
    """Give squares of labels that touch."""
    return np.kron(np.asarray(numbers), np.ones((side, side), int))


def names_of(labels: AnyArray, *, bright: bool = False) -> list[int]:
    """Give the place in its palette of the colour of each label, from 1 on."""
    palette = np.array(ON_BRIGHT if bright else ON_DARK)
    colours = 255 * outline_colours(labels, bright=bright)
    away = np.abs(colours[:, None] - palette).max(-1)
    assert away.min(-1).max() < 2  # ours have two digits
    return [int(place) for place in away.argmin(-1)[1:]]


@pytest.mark.parametrize("bright", [False, True])
def test_labels_that_all_touch_take_the_palette_in_its_order(*, bright: bool) -> None:
    disc = np.hypot(*np.mgrid[-30:31, -30:31]) < 30
    angle = np.arctan2(*np.mgrid[-30:31, -30:31])
    sectors = np.where(disc, np.clip(np.digitize(angle, np.linspace(-3.1, 3.1, 4)), 1, 3), 0)

    assert names_of(sectors, bright=bright) == [0, 1, 2]


def test_labels_far_apart_have_the_same_colour() -> None:
    assert names_of(mosaic([[1, 0, 2], [0, 0, 0], [3, 0, 4]], side=30)) == [0, 0, 0, 0]


@pytest.mark.parametrize(("gap", "second"), [(0, 1), (3, 1), (6, 1), (12, 1), (15, 0)])
def test_twice_6_px_between_labels_are_not_enough_for_the_same_colour(
    gap: int, second: int
) -> None:
    labels = np.zeros((30, 60 + gap), int)
    labels[:, :30], labels[:, 30 + gap :] = 1, 2

    assert names_of(labels) == [0, second]


def test_a_number_that_no_pixel_has_takes_no_colour_from_others() -> None:
    assert names_of(mosaic([[2, 5]])) == [0, 0, 0, 0, 1]


def test_without_labels_there_is_the_row_of_the_background_alone() -> None:
    assert outline_colours(np.zeros((5, 5), int)).shape == (1, 3)
    assert outline_colours(np.zeros((0, 5), int)).shape == (1, 3)


def grown(labels: AnyArray, order: int, row: int = 0, left: int = 0) -> int:
    """Draw a bar that lies on bars of the orders below its own, and number it after them.

    Each bar thus touches one of every colour before its own. Gives where it ends.
    """
    right = left
    for below in range(order):
        right = grown(labels, below, row + 1, right) + 18
    right = max(right - 18, left + 12)
    labels[12 * row : 12 * row + 12, left:right] = labels.max() + 1
    return right


def test_a_label_turns_through_the_palette_when_its_neighbours_have_all_of_it() -> None:
    labels = np.zeros((7 * 12, 32 * 30), int)
    grown(labels, 6)

    found = names_of(labels)

    assert len(found) == 64
    assert [found[:-1].count(colour) for colour in range(6)] == [32, 16, 8, 4, 2, 1]
    assert found[-1] == 64 % 6


@settings(max_examples=25)
@given(st.permutations(range(1, 13)))
def test_each_label_has_the_first_colour_that_none_beside_it_had_before(order: list[int]) -> None:
    numbers = np.array(order).reshape(3, 4)

    found = dict(enumerate(names_of(mosaic(numbers)), start=1))

    for (row, column), label in np.ndenumerate(numbers):
        beside = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        others = [int(numbers[at]) for at in beside if 0 <= at[0] < 3 and 0 <= at[1] < 4]
        taken = {found[other] for other in others if other < label}
        assert found[int(label)] == min(set(range(6)) - taken)


def test_percentiles_1_and_99_8_become_black_and_white() -> None:
    ramp = np.arange(1001.0).reshape(7, 143)

    shown = stretched(ramp)

    # of 0 to 1000 the percentiles are 10 and 998
    np.testing.assert_allclose(shown, np.clip((ramp - 10) / 988, 0, 1), atol=1e-6)
    assert shown.dtype == np.float32


def test_a_few_bright_pixels_on_black_are_seen_all_the_same() -> None:
    pixels = np.zeros((100, 100), np.uint16)
    pixels[0, :2] = 40, 80  # fewer than the percentiles see

    shown = stretched(pixels)

    assert shown[0, :3].tolist() == [0.5, 1, 0]


@pytest.mark.parametrize(
    ("pixels", "shown"),
    [
        ([[1e300, 0.0, 1.0]], [[1, 0, 1]]),
        ([[-1e300, 0.0, 1.0]], [[0, 0, 1]]),
        ([[np.inf, 0.0, 1.0]], [[1, 0, 1]]),
        ([[-np.inf, np.nan, 0.0, 1.0]], [[0, 0, 0, 1]]),
        ([[7.0, 7.0]], [[0, 0]]),
        ([[False, True]], [[0, 1]]),
    ],
)
def test_what_is_no_usual_number_is_black_or_white(pixels: Any, shown: Any) -> None:
    np.testing.assert_allclose(stretched(np.array(pixels)), shown, atol=1e-2)


@pytest.mark.parametrize(
    ("count", "colours"),
    [
        (1, [(1, 1, 1)]),
        (2, [(1, 0.2, 0.9), (0.1, 0.9, 0.2)]),
        (3, [(1, 0.2, 0.9), (0.2, 0.9, 0.2), (0.1, 0.45, 1)]),
        (4, [(1, 0.2, 0.9), (0.2, 0.9, 0.2), (0.1, 0.45, 1), (0, 0, 0)]),
    ],
)
def test_each_stain_has_a_colour_of_its_own_and_dim_ones_are_lifted(
    count: int, colours: list[tuple[float, float, float]]
) -> None:
    image = np.zeros((count, 10, 20))
    for channel in range(count):
        image[channel, channel, :10], image[channel, channel, 10:] = 50, 100

    shown = in_colour(array(image, "cyx"))

    for channel, colour in enumerate(colours):
        full = 255 * np.array(colour)
        np.testing.assert_allclose(shown[channel, 15], full, atol=0.51)
        np.testing.assert_allclose(shown[channel, 5], full * 0.5**GAMMA, atol=0.51)


def test_stains_on_one_pixel_add_up_to_no_more_than_white() -> None:
    image = np.zeros((2, 10, 20))
    image[:, :5] = 100

    np.testing.assert_allclose(in_colour(array(image, "cyx"))[0, 0], [255, 255, 255])


def test_axes_in_another_order_show_the_same() -> None:
    image = np.random.default_rng(0).random((2, 5, 6))

    one, other = in_colour(array(image, "cyx")), in_colour(array(image.T, "xyc"))

    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(in_colour(array(image[0])), in_colour(array(image[0].T, "xy")))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16"])
@given(values=hnp.arrays(np.int16, (3, 7), elements=st.integers(-128, 127)))
def test_small_whole_numbers_are_shown_as_the_same_fractions_are(
    dtype: str, values: AnyArray
) -> None:
    whole = values.astype(dtype)

    shown, wanted = in_colour(array(whole)), in_colour(array(whole.astype(np.float32)))

    np.testing.assert_array_equal(shown, wanted)
    np.testing.assert_array_equal(stretched(whole), stretched(whole.astype(np.float32)))


@pytest.mark.parametrize("colour", [False, True])
def test_only_a_photograph_of_three_channels_is_stretched_as_one(*, colour: bool) -> None:
    image = np.zeros((3, 10, 20))
    image[0, :5], image[1, :5] = 100, 50

    shown = in_colour(replace(array(image, "cyx"), colour=colour))

    assert (shown[0, 0].tolist() == [255, 128, 0]) == colour


def test_the_nearest_pixel_is_the_one_under_the_centre() -> None:
    pixels = np.arange(6).reshape(2, 3)

    assert nearest(pixels, (4, 6)).tolist() == [
        [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5], [3, 3, 4, 4, 5, 5],
    ]  # fmt: skip
    assert nearest(pixels, (1, 1)).tolist() == [[4]]
    np.testing.assert_array_equal(nearest(pixels, (2, 3)), pixels)


def test_what_is_shrunk_is_averaged_channel_by_channel() -> None:
    image = np.stack([np.arange(16).reshape(4, 4), np.full((4, 4), 1e300)])

    small = shrunk(replace(array(image, "cyx"), colour=True), (2, 2))

    assert small.array[0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert np.isinf(small.array[1]).all()
    assert (small.axes, small.colour) == (("c", "y", "x"), True)


@pytest.mark.parametrize("sides", [(4, 4), (5, 4), (8, 8)])
def test_what_is_small_enough_is_not_averaged(sides: tuple[int, int]) -> None:
    image = array(np.zeros((4, 4)))

    assert shrunk(image, sides) is image


@pytest.mark.parametrize(("grey", "first"), [(0.0, YELLOW), (1.0, BLUE)])
def test_outlines_contrast_with_the_image_and_have_a_rim_on_both_sides(
    grey: float, first: tuple[int, int, int]
) -> None:
    image = np.full((700, 700), grey)
    image[0, :8], image[1, :8] = 1, 0  # whatever the rest is, this is white and black
    labels = np.zeros((700, 700), np.uint32)
    labels[100:200, 300:400] = 2**20

    picture = overlay(array(image), array(labels)).astype(int)

    for y, x in ((100, 350), (101, 350), (199, 350), (150, 300), (150, 398)):
        assert np.abs(picture[y, x] - first).max() < 2
    assert picture[150, 350].tolist() == [255 * grey] * 3
    assert picture[99, 350].tolist() == picture[102, 350].tolist() == [255 * grey] * 3
    assert picture[98, 350].tolist() == [255 * grey] * 3


def test_labels_of_every_dtype_are_drawn_alike() -> None:
    labels = np.zeros((700, 700), int)
    labels[10:50, 10:50], labels[50:90, 10:50] = 1, 200
    image = array(np.zeros((700, 700)))

    pictures = [overlay(image, array(labels.astype(d))) for d in ("uint8", "int16", "uint64")]

    assert len(np.unique(pictures[0].reshape(-1, 3), axis=0)) == 3
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])

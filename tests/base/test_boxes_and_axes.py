"""Boxes cover an array once, axes have one order, numbers the smallest dtype that holds them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import smallest_unsigned
from bmz.base.axes import EMPTY, IMAGE_AXES, LETTERS, NAMES, SPACE, Step, boxes, in_image_order

SIDES = st.lists(st.tuples(st.integers(0, 7), st.integers(1, 9)), max_size=3)


@given(SIDES)
def test_boxes_cover_every_pixel_once(sides: list[tuple[int, int]]) -> None:
    shape = [n for n, _ in sides]
    times = np.zeros(shape, int)

    for box in boxes(shape, [side for _, side in sides]):
        assert all(0 < s.stop - s.start <= side for s, (_, side) in zip(box, sides, strict=True))
        times[box] += 1

    assert (times == 1).all()


def test_the_last_axis_of_boxes_is_the_fastest_and_the_last_box_may_be_shorter() -> None:
    found = [tuple((s.start, s.stop) for s in box) for box in boxes((3, 5), (2, 3))]

    assert found == [
        ((0, 2), (0, 3)), ((0, 2), (3, 5)),
        ((2, 3), (0, 3)), ((2, 3), (3, 5)),
    ]  # fmt: skip


def test_a_box_has_a_side_for_every_axis() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(boxes((3, 5), (2,)))


@given(st.permutations(IMAGE_AXES), st.integers(0, 5))
def test_axes_have_one_order_whatever_order_they_come_in(axes: list[str], count: int) -> None:
    found = in_image_order(axes[:count])

    assert set(found) == set(axes[:count])
    assert [IMAGE_AXES.index(axis) for axis in found] == sorted(map(IMAGE_AXES.index, found))


def test_an_axis_that_no_image_has_is_not_put_in_order() -> None:
    with pytest.raises(ValueError, match="not found"):
        in_image_order("yxb")


def test_letters_are_the_names_the_other_way_round() -> None:
    assert {NAMES[LETTERS[name]] for name in LETTERS} == set(NAMES.values())
    assert len(LETTERS) == len(NAMES)
    assert SPACE in IMAGE_AXES


@pytest.mark.parametrize(
    ("most", "bits"),
    [
        (-1, 8), (0, 8), (255, 8), (256, 16), (65535, 16), (65536, 32), (2**32 - 1, 32),
        (2**32, 64), (2**64 - 1, 64), (np.int32(255), 8), (np.uint16(256), 16),
    ],
)  # fmt: skip
def test_numbers_get_the_smallest_dtype_that_holds_them(most: int, bits: int) -> None:
    assert smallest_unsigned(most) == np.dtype(f"uint{bits}")
    assert type(smallest_unsigned(most)) is type(np.dtype(f"uint{bits}"))  # zarr looks at this


def test_a_step_is_worded_as_a_call_and_has_no_arguments_by_default() -> None:
    step = Step("scale_range", {"axes": ("c", "y"), "max_percentile": 99.8})

    assert str(step) == "scale_range(axes=('c', 'y'), max_percentile=99.8)"
    assert str(Step("sigmoid")) == "sigmoid()"
    assert Step("sigmoid") == Step("sigmoid", {})
    with pytest.raises(TypeError, match="item assignment"):
        EMPTY["axes"] = ()  # type: ignore[index]

"""Labels of planes that lie on the disk: any part of them is that part of the whole."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.engine.label_stack import (
    Labels,
    LabelStack,
    in_image,
    without_border,
)
from bmz.engine.overviews import overview
from bmz.image.inspect import inspect_image
from bmz.image.region import open_image
from bmz.process.blocks import Found


def labels_of(stored: AnyArray, numbers: AnyArray | None = None) -> Labels:
    known = np.arange(int(stored.max(initial=0)) + 1) if numbers is None else numbers
    return Labels(stored, known, Found(), stored.shape, (8, 8), (0, 0))


def stack_of(arrays: AnyArray, loop: dict[str, int], space: str) -> LabelStack:
    """Make a stack of labels; `arrays` has the axes of the loop in front."""
    planes = arrays.reshape(-1, *arrays.shape[len(loop) :])
    return LabelStack([labels_of(plane) for plane in planes], loop, space)


def test_the_numbers_of_objects_are_looked_up_where_a_part_is_read() -> None:
    stored = np.array([[3, 0, 1], [3, 2, 2]])
    labels = labels_of(stored, np.array([0, 2, 0, 1]))

    assert labels.count == 2
    assert labels[0:2, 0:3].tolist() == [[1, 0, 2], [1, 0, 0]]
    assert labels[1:, -1:].tolist() == [[0]]
    assert labels[:, :].tolist() == labels[0:9, 0:9].tolist()


SHAPES = st.sampled_from(
    [
        ({}, "yx", (5, 6)),
        ({"t": 3}, "yx", (3, 4, 5)),
        ({"t": 2, "z": 3}, "yx", (2, 3, 4, 5)),
        ({}, "zyx", (3, 4, 5)),
        ({"t": 2}, "zyx", (2, 3, 4, 5)),
    ]
)


def numbered_on(arrays: AnyArray, loop: dict[str, int]) -> AnyArray:
    """Number the objects of each plane behind those of all planes before it."""
    planes = arrays.reshape(-1, *arrays.shape[len(loop) :])
    starts = [0, *accumulate(int(plane.max()) for plane in planes)]
    pairs = zip(planes, starts, strict=False)
    return np.stack([plane + start * (plane > 0) for plane, start in pairs]).reshape(arrays.shape)


@settings(max_examples=40)
@given(SHAPES, st.data())
def test_a_part_of_a_stack_is_that_part_of_the_whole(
    kind: tuple[dict[str, int], str, tuple[int, ...]], data: st.DataObject
) -> None:
    loop, space, shape = kind
    arrays = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, shape)
    whole = numbered_on(arrays, loop)
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    stops = [data.draw(st.integers(start + 1, n)) for start, n in zip(starts, shape, strict=True)]
    part = tuple(map(slice, starts, stops))

    stack = stack_of(arrays, loop, space)

    np.testing.assert_array_equal(stack[part], whole[part])
    assert stack.count == whole.max(initial=0)
    assert (stack.axes, stack.shape) == ("".join(loop) + space, shape)


def test_positions_go_on_fastest_along_the_last_axis_of_the_loop() -> None:
    stack = stack_of(np.ones((2, 3, 1, 1), np.int64), {"t": 2, "z": 3}, "yx")

    assert stack.positions()[:4] == [
        {"t": 0, "z": 0}, {"t": 0, "z": 1}, {"t": 0, "z": 2}, {"t": 1, "z": 0},
    ]  # fmt: skip
    assert stack.starts == [0, 1, 2, 3, 4, 5, 6]
    assert stack_of(np.ones((1, 1), np.int64), {}, "yx").positions() == [{}]


def test_the_fullest_plane_is_the_first_of_those_with_most_objects() -> None:
    series = np.array([[[1, 0]], [[1, 2]], [[2, 1]]])
    stack = np.array([[[0, 1]], [[2, 1]], [[2, 1]]])

    assert stack_of(series, {"t": 3}, "yx").fullest_plane() == {"t": 1}
    assert stack_of(stack, {}, "zyx").fullest_plane() == {"z": 1}
    assert stack_of(0 * stack, {}, "zyx").fullest_plane() == {"z": 0}
    assert stack_of(np.stack([stack, stack[::-1]]), {"t": 2}, "zyx").fullest_plane() == {
        "t": 0,
        "z": 1,
    }
    assert stack_of(np.stack([stack[:1], stack[1:2]]), {"t": 2}, "zyx").fullest_plane() == {
        "t": 1,
        "z": 0,
    }


def test_objects_that_were_left_out_do_not_make_a_plane_full() -> None:
    stored = np.array([[[1, 2, 3]], [[4, 4, 5]]])
    part = labels_of(stored, np.array([0, 1, 0, 0, 2, 3]))

    assert LabelStack([part], {}, "zyx").fullest_plane() == {"z": 1}


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ((1, 0, 2), False),
        ((1, 3, 2), False),
        ((1, 2, 0), False),
        ((1, 2, 4), False),
        ((0, 1, 1), True),
        ((2, 2, 3), True),
    ],
)
def test_the_border_is_that_of_y_and_x_and_not_of_z(place: tuple[int, ...], kept: bool) -> None:
    stored = np.zeros((3, 4, 5), np.int64)
    stored[place] = 2
    stored[1, 1, 2] = 1

    numbers = without_border(stored, np.arange(3), stored.shape)

    assert numbers.tolist() == [0, 1, 2 if kept else 0]


def test_what_lies_beyond_the_size_is_no_border() -> None:
    stored = np.pad(np.array([[1, 0, 2], [0, 3, 0], [4, 0, 5]]), ((0, 1), (0, 1)))
    stored[3, 3] = 6

    assert without_border(stored, np.arange(7), (3, 3)).tolist() == [0, 0, 0, 1, 0, 0, 2]


def test_of_a_stack_only_what_no_plane_shows_is_hidden() -> None:
    stored = np.zeros((2, 4, 4), np.int64)
    stored[0, 0, 3], stored[1, 2, 2], stored[1, 3, 0], stored[0, 2, 0] = 1, 2, 3, 4

    numbers = in_image(stored, 4, (2, 3, 3), 2)

    assert numbers.tolist() == [0, 0, 2, 0, 1]


@pytest.mark.parametrize(
    ("axes", "loop", "space"),
    [
        ("yx", {}, "yx"),
        ("cyx", {}, "yx"),
        ("tcyx", {"t": 2}, "yx"),
        ("zyx", {}, "zyx"),
        ("tzyx", {"t": 2, "z": 2}, "yx"),
    ],
)
@pytest.mark.parametrize("step", [4, 3, 1])
def test_the_picture_shows_the_fullest_plane_shrunk_by_a_whole_factor(
    axes: str, loop: dict[str, int], space: str, step: int, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"t": 2, "c": 3, "z": 2, "y": 13, "x": 22}
    pixels = np.random.default_rng(0).random([sizes[axis] for axis in axes])
    np.save(tmp_path / "a.npy", pixels)
    full = np.arange(13 * 22).reshape(13, 22)
    numbers = np.zeros([sizes[axis] for axis in (*loop, *space)], np.int64)
    numbers[(-1,) * (numbers.ndim - 2)] = full
    stack = stack_of(numbers, loop, space)

    # 22 pixels fit into 7 where one of 4 is shown, and into 10 where one of 3 is
    longest = {4: 7, 3: 10, 1: 22}[step]
    with open_image(inspect_image(tmp_path / "a.npy", axes=axes)) as image:
        picture = overview(stack, image, longest)

    last = xr.DataArray(pixels, dims=list(axes)).isel({a: -1 for a in axes if a in "tz"})
    wanted = last.coarsen(y=step, x=step, boundary="pad").mean()
    np.testing.assert_allclose(picture.image, wanted, rtol=1e-6)
    assert picture.image.axes == last.dims
    np.testing.assert_array_equal(picture.labels, full[::step, ::step])
    assert picture.at == {axis: (1, 2) for axis in axes if axis in "tz"}

"""`Pixels` give what a DataArray of xarray gives for the same slices, and become one."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from bmz.image.pixels import Pixels, is_xarray, to_xarray

STACK = Pixels(
    np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5),
    ("c", "z", "y", "x"),
    {"z": 2.0, "y": 0.5, "c": 9.0},
    ("DAPI", "GFP"),
    colour=True,
)


def places(size: int) -> st.SearchStrategy[slice | int]:
    return st.slices(size) | st.integers(-size, size - 1)


@given(st.fixed_dictionaries({}, optional={a: places(n) for a, n in STACK.sizes.items()}))
def test_a_part_has_the_pixels_axes_and_names_that_xarray_gives(
    box: dict[str, slice | int],
) -> None:
    whole = to_xarray(STACK)

    part = STACK.part(box)

    expected = whole.isel(box, drop=True)
    np.testing.assert_array_equal(part, expected)
    assert part.axes == expected.dims
    assert part.sizes == expected.sizes
    names = expected.coords["c"].values.tolist() if "c" in part.axes else []
    assert list(part.channel_names) == names
    assert set(part.pixel_um) == set(part.axes) & {"z", "y"}


def test_a_part_and_other_orders_share_the_pixels() -> None:
    for same in (STACK.part({"y": slice(1, 3)}), STACK.transposed("xyzc")):
        assert np.shares_memory(same.array, STACK.array)
    assert STACK.transposed("xyzc").shape == (5, 4, 3, 2)


def test_a_channel_axis_is_put_first_where_there_is_none() -> None:
    plane = STACK.part({"c": 1})

    assert plane.with_channel_axis().axes == ("c", "z", "y", "x")
    assert plane.with_channel_axis().channel_names == ()
    assert STACK.with_channel_axis() is STACK


@pytest.mark.parametrize(
    ("axes", "names", "message"),
    [
        ("zyx", (), "axes ('z', 'y', 'x') do not name those of shape (2, 3)"),
        ("yy", (), "axes ('y', 'y') do not name those of shape (2, 3)"),
        ("yx", ("a",), "('a',) do not name the channels of {'y': 2, 'x': 3}"),
        ("cx", ("a",), "('a',) do not name the channels of {'c': 2, 'x': 3}"),
    ],
)
def test_names_that_do_not_fit_the_array_are_refused(
    axes: str, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Pixels(np.zeros((2, 3)), tuple(axes), channel_names=names)


def test_an_axis_that_is_not_there_has_no_part() -> None:
    with pytest.raises(ValueError, match=re.escape("there is no axis ['t']")):
        STACK.part({"t": 0})


def test_a_data_array_has_lengths_in_um_and_names_as_coordinates() -> None:
    array = to_xarray(STACK)

    expected = xr.DataArray(
        STACK.array,
        dims=("c", "z", "y", "x"),
        coords={
            "z": ("z", [0.0, 2.0, 4.0], {"units": "um", "pixel_um": 2.0}),
            "y": ("y", [0.0, 0.5, 1.0, 1.5], {"units": "um", "pixel_um": 0.5}),
            "c": ("c", ["DAPI", "GFP"]),
        },
        attrs={"colour": True},
    )
    xr.testing.assert_identical(array, expected)
    assert array.coords["y"].attrs == {"units": "um", "pixel_um": 0.5}
    assert np.shares_memory(array.values, STACK.array)
    assert to_xarray(STACK.part({"c": 0})).coords.keys() == {"z", "y"}


def test_a_data_array_is_known_without_importing_xarray() -> None:
    program = (
        "import sys; from bmz.image.pixels import is_xarray; "
        "print(is_xarray([1]), 'xarray' in sys.modules)"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert told.stdout.split() == [b"False", b"False"]
    assert is_xarray(to_xarray(STACK))
    assert not is_xarray(STACK.array)

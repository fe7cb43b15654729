from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from bmz.base.arrays import AnyArray
from bmz.image.faults import AxesUnknown, PixelsRefused
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image


def numbered(*shape: int, dtype: str = "uint16") -> AnyArray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def test_an_array_of_two_large_axes_is_a_plane(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, numbered(1, 4, 5, 1))

    info = inspect_image(path)

    assert (info.axes, info.shape) == ("yx", (4, 5))
    assert np.array_equal(read_image(info), numbered(4, 5))


def test_an_array_of_three_large_axes_is_ambiguous_until_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, numbered(1, 4, 5, 3))

    silent, told = inspect_image(path), inspect_image(path, axes="yxc")

    assert (silent.axes, silent.shape) == ("qqq", (4, 5, 3))
    assert read_image(told).sizes == {"c": 3, "y": 4, "x": 5}


@pytest.mark.parametrize("shape", [(7,), (1, 1, 7), (1, 1, 1)])
def test_an_array_that_is_no_plane_is_ambiguous(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.npy"
    np.save(path, numbered(*shape))

    with pytest.raises(AxesUnknown):
        read_image(inspect_image(path))


@pytest.mark.parametrize(
    ("shape", "example"),
    [((2, 3, 4), "--axes zyx"), ((2, 3, 4, 5, 6), "--axes tczyx"), ((2,) * 6, "at most one each")],
)
def test_the_hint_names_as_many_axes_as_there_are(
    tmp_path: Path, shape: tuple[int, ...], example: str
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, numbered(*shape))

    with pytest.raises(AxesUnknown) as caught:
        read_image(inspect_image(path))

    assert example in caught.value.hint


@pytest.mark.parametrize(
    ("mode", "shape", "axes", "colour"),
    [
        ("L", (4, 5), "yx", False),
        ("1", (4, 5), "yx", False),
        ("LA", (4, 5), "yx", False),
        ("RGB", (4, 5, 3), "yxc", True),
        ("RGBA", (4, 5, 3), "yxc", True),
        ("P", (4, 5, 3), "yxc", True),
    ],
)
def test_png_is_grey_or_a_colour_photograph_and_constant_alpha_is_dropped(
    tmp_path: Path, mode: str, shape: tuple[int, ...], axes: str, *, colour: bool
) -> None:
    path = tmp_path / "a.png"
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8))
    picture.convert(mode).save(path)

    info = inspect_image(path)
    image = read_image(info)

    assert (info.axes, info.shape, info.colour) == (axes, shape, colour)
    if mode in ("RGB", "L", "RGBA"):
        expected = np.asarray(picture.convert(mode.removesuffix("A")))
        assert np.array_equal(image.transposed(axes), expected)


def test_png_keeps_sixteen_bits_of_colour(tmp_path: Path) -> None:
    pixels = numbered(4, 5, 3) * 1000
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(pixels))

    image = read_image(inspect_image(path))

    assert image.dtype == np.uint16
    assert np.array_equal(image.transposed("yxc"), pixels)


def test_a_palette_of_greys_is_a_grey_image(tmp_path: Path) -> None:
    grey = Image.fromarray(numbered(4, 5, dtype="uint8"))
    grey.putpalette([value for i in range(256) for value in (255 - i,) * 3], "RGB")
    grey.save(tmp_path / "a.png")

    image = read_image(inspect_image(tmp_path / "a.png"))

    assert np.array_equal(image, 255 - numbered(4, 5, dtype="uint8"))


@pytest.mark.parametrize("dtype", ["complex64", "U3"])
def test_values_that_are_no_real_numbers_are_refused(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 3), dtype))

    with pytest.raises(PixelsRefused):
        inspect_image(path)

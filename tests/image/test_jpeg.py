from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell
from bmz.image.formats import image_suffix
from bmz.image.inspect import inspect_image
from bmz.image.pictures import LOSSY
from bmz.image.region import read_image

BLOCKS = np.random.default_rng(0).integers(0, 255, (3, 5, 3))
PHOTO: AnyArray = np.kron(BLOCKS, np.ones((8, 8, 1), int)).astype(np.uint8)
ORIENTATION = 0x0112


def saved(path: Path, pixels: AnyArray = PHOTO, mode: str | None = None, **options: Any) -> Path:
    picture = Image.fromarray(pixels)
    picture.convert(mode or picture.mode).save(path, format="JPEG", quality=95, **options)
    return path


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("mode", "axes"), [("RGB", "yxc"), ("L", "yx")])
def test_a_photograph_and_a_grey_picture_are_told_apart(
    tmp_path: Path, mode: str, axes: str, *, progressive: bool
) -> None:
    path = saved(tmp_path / "a.jpg", mode=mode, progressive=progressive)

    info = inspect_image(path)
    image = read_image(info).transposed(axes)

    assert (info.axes, info.shape[:2], info.dtype) == (axes, (24, 40), np.dtype("uint8"))
    assert info.colour == (mode == "RGB")
    assert info.remarks == (LOSSY,)
    with Image.open(path) as picture:
        assert np.abs(image.array.astype(int) - np.asarray(picture).astype(int)).max() <= 1


def test_exif_orientation_is_remarked_upon_and_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "cells"
    exif[ORIENTATION] = 6

    info = inspect_image(saved(tmp_path / "a.jpg", exif=exif))

    assert info.shape == PHOTO.shape
    assert "Exif orientation 6 is not applied" in info.remarks[1]
    assert read_image(info).sizes == {"c": 3, "y": 24, "x": 40}


def test_the_resolution_of_a_screen_is_odd_and_that_of_a_microscope_is_not(tmp_path: Path) -> None:
    screen = inspect_image(saved(tmp_path / "a.jpg", dpi=(72, 72)))
    fine = inspect_image(saved(tmp_path / "b.jpg", dpi=(50800, 50800)))
    silent = inspect_image(saved(tmp_path / "c.jpg"))

    assert (screen.pixel_um, len(screen.odd_pixel)) == ({}, 2)
    assert fine.pixel_um == pytest.approx({"y": 0.5, "x": 0.5})
    assert (silent.pixel_um, silent.odd_pixel) == ({}, ())


def test_colours_of_a_printer_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", mode="CMYK")

    with pytest.raises(CouldNotTell, match="has 4 colour components; wanted grey or RGB"):
        inspect_image(path)


def test_a_jpeg_of_an_unknown_name_is_read_by_its_content(tmp_path: Path) -> None:
    assert inspect_image(saved(tmp_path / "a.dat")).colour
    assert image_suffix(Path("a.b.JPEG")) == ".JPEG"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(keep=st.integers(0, 900))
def test_a_jpeg_that_is_cut_short_is_never_filled_with_grey(tmp_path: Path, keep: int) -> None:
    path = saved(tmp_path / "a.jpg")
    whole = path.read_bytes()
    path.write_bytes(whole[: min(keep, len(whole) - 1)])

    with pytest.raises(CouldNotTell) as caught:
        read_image(inspect_image(path))

    assert caught.value.code in ("image.truncated", "image.unreadable", "image.empty")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_flipped_bytes_of_a_jpeg_end_in_an_image_or_in_one_of_our_errors(
    tmp_path: Path, data: st.DataObject
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    raw = bytearray(saved(tmp_path / "a.jpg", exif=exif).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.jpg").write_bytes(raw)

    try:
        read_image(inspect_image(tmp_path / "a.jpg"))
    except BmzError as error:
        assert "\n" not in error.message  # noqa: PT017  (any of our errors will do)

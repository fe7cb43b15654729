from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.image.faults import (
    AxesRefused,
    AxesUnknown,
    SeriesOutOfRange,
    TwoChannelAxes,
)
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image


def numbered(*shape: int, dtype: str = "uint16") -> AnyArray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def saved(path: Path, pixels: AnyArray, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    return path


@pytest.mark.parametrize(
    ("name", "axes", "shape", "pixel_um"),
    [
        ("xy_16bit_calibrated__nuclei_various_shapes", "yx", (253, 269), {"y": 0.2, "x": 0.2}),
        ("xy_8bit_labels__nuclei", "yx", (420, 476), {}),
        ("xyc_16bit__hela-cells", "yxc", (512, 672, 3), {"y": 0.0514931, "x": 0.0514931}),
        ("xyc_16bit__nup_nuclei", "cyx", (2, 420, 476), {}),
        ("xyc_8bit__cyto_nuclei", "cyx", (2, 254, 182), {}),  # its unit is px
        ("xyc_8bit__membranes_nuclei", "cyx", (2, 354, 475), {}),
        ("xyc_8bit__membranes_nuclei_big", "cyx", (2, 299, 340), {"y": 0.517902, "x": 0.517902}),
        (
            "xyzc_16bit__dna_conf_wf",
            "zcyx",
            (45, 2, 130, 133),
            {"z": 0.499413, "y": 0.511878, "x": 0.511878},
        ),
    ],
)
def test_real_imagej_files_tell_axes_and_pixel_size(
    shared: Path, name: str, axes: str, shape: tuple[int, ...], pixel_um: dict[str, float]
) -> None:
    info = inspect_image(shared / "data" / "neubias" / f"{name}.tif")

    assert (info.axes, info.shape) == (axes, shape)
    assert info.pixel_um == pytest.approx(pixel_um, rel=1e-5)
    assert info.pixel_from == ("ImageJ" if pixel_um else "")
    assert info.odd_pixel == ()


def test_a_real_stack_without_names_is_ambiguous_until_the_user_speaks(shared: Path) -> None:
    path = shared / "data" / "stardist" / "img3d.tif"

    silent, told = inspect_image(path), inspect_image(path, axes="zyx")

    assert (silent.axes, told.axes) == ("qyx", "zyx")
    with pytest.raises(AxesUnknown, match="31 x 61 x 57") as caught:
        read_image(silent)
    assert caught.value.code == "axes.ambiguous"
    assert "--axes zyx" in caught.value.hint
    assert read_image(told).sizes == {"z": 31, "y": 61, "x": 57}


def test_a_plain_plane_is_yx(tmp_path: Path) -> None:
    info = inspect_image(saved(tmp_path / "a.tif", numbered(5, 7), metadata=None))

    assert (info.axes, info.shape, info.dtype) == ("yx", (5, 7), np.dtype("uint16"))
    assert (info.pixel_um, info.pixel_from, info.series_count) == ({}, "", 1)


def test_pages_without_names_stay_unnamed(tmp_path: Path) -> None:
    info = inspect_image(saved(tmp_path / "a.tif", numbered(4, 5, 7), metadata=None))

    assert (info.axes, info.shape) == ("qyx", (4, 5, 7))


def test_an_imagej_stack_of_nothing_but_images_stays_unnamed(tmp_path: Path) -> None:
    words = "ImageJ=1.54f\nimages=4\nunit=micron\nspacing=2.0\n"
    path = saved(
        tmp_path / "a.tif", numbered(4, 5, 7), description=words, metadata=None, resolution=(4, 4)
    )

    info, told = inspect_image(path), inspect_image(path, axes="zyx")

    assert info.axes == "qyx"
    assert info.pixel_um == {"y": 0.25, "x": 0.25}
    assert told.pixel_um == {"z": 2.0, "y": 0.25, "x": 0.25}


@pytest.mark.parametrize("axes", ["TZCYX", "ZCYX", "TYX", "CYX"])
def test_imagej_hyperstacks_name_their_axes(tmp_path: Path, axes: str) -> None:
    pixels = numbered(*range(2, 2 + len(axes)))

    info = inspect_image(saved(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": axes}))

    assert (info.axes, info.shape) == (axes.lower(), pixels.shape)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(axes=st.permutations("TZC").flatmap(lambda p: st.just("".join(p[:2]) + "YX")))
def test_ome_axes_are_read_in_their_own_order_and_held_in_ours(tmp_path: Path, axes: str) -> None:
    pixels = numbered(2, 3, 4, 5)

    path = saved(tmp_path / "a.ome.tif", pixels, ome=True, metadata={"axes": axes})
    image = read_image(inspect_image(path))

    assert image.axes == tuple(sorted(axes.lower(), key="tczyx".index))
    assert np.array_equal(image.transposed(axes.lower()), pixels)


def test_ome_tells_pixel_size_in_its_units_and_channel_names(tmp_path: Path) -> None:
    words = {
        "axes": "ZCYX",
        "PhysicalSizeX": 250.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.25,
        "PhysicalSizeZ": 0.002,
        "PhysicalSizeZUnit": "mm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    path = saved(tmp_path / "a.ome.tif", numbered(3, 2, 4, 5), ome=True, metadata=words)

    info = inspect_image(path)
    image = read_image(info)

    assert info.pixel_um == pytest.approx({"z": 2.0, "y": 0.25, "x": 0.25})
    assert (info.pixel_from, info.channel_names) == ("OME-XML", ("DAPI", "GFP"))
    assert image.channel_names == ("DAPI", "GFP")
    assert image.pixel_um == info.pixel_um


def test_samples_of_a_photograph_are_channels_of_a_colour_image(tmp_path: Path) -> None:
    pixels = numbered(4, 5, 3)

    info = inspect_image(saved(tmp_path / "a.tif", pixels, photometric="rgb"))
    image = read_image(info)

    assert (info.axes, info.colour) == ("yxc", True)
    assert image.colour
    assert np.array_equal(image, np.moveaxis(pixels, -1, 0))


def test_samples_that_are_no_photograph_are_channels_without_colour(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", numbered(4, 5, 2), planarconfig="contig")

    info = inspect_image(path)

    assert (info.axes, info.shape, info.colour) == ("yxc", (4, 5, 2), False)


def test_a_single_channel_of_colour_samples_becomes_one_channel_axis(tmp_path: Path) -> None:
    words = {"axes": "TCYXS"}
    pixels = numbered(2, 1, 4, 5, 3, dtype="uint8")

    info = inspect_image(saved(tmp_path / "a.tif", pixels, photometric="rgb", metadata=words))

    assert (info.axes, info.shape, info.colour) == ("tyxc", (2, 4, 5, 3), True)


def test_channels_of_colour_samples_cannot_be_told(tmp_path: Path) -> None:
    words = {"axes": "CYXS"}
    path = tmp_path / "a.tif"
    saved(path, numbered(2, 4, 5, 3, dtype="uint8"), photometric="rgb", metadata=words)

    with pytest.raises(TwoChannelAxes, match="2 channels of 3 colour samples"):
        inspect_image(path)


def test_one_of_several_images_is_chosen_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(numbered(4, 5), photometric="minisblack", metadata={"PhysicalSizeX": 0.5})
        tif.write(numbered(6, 7), photometric="minisblack", metadata={"PhysicalSizeX": 2.0})

    info = inspect_image(path, series=1)

    assert (info.shape, info.series, info.series_count) == ((6, 7), 1, 2)
    assert info.pixel_um == {"x": 2.0}
    with pytest.raises(SeriesOutOfRange, match="2 images, numbers 0 to 1"):
        inspect_image(path, series=2)
    assert np.array_equal(read_image(info), numbered(6, 7))


@pytest.mark.parametrize(
    ("axes", "why"),
    [
        ("zyw", "'w' is not an axis"),
        ("ZYXW", "'w' is not an axis"),
        ("yyx", "'y' occurs twice"),
        ("zcy", "'x' is missing"),
        ("", "'y' is missing"),
        ("tzyx", r"it names 4 axes, but the file has 3 \(2 x 4 x 5, known: qyx\)"),
        ("yx", "it names 2 axes, but the file has 3"),
    ],
)
def test_words_for_axes_that_do_not_suit_are_refused(tmp_path: Path, axes: str, why: str) -> None:
    path = saved(tmp_path / "a.tif", numbered(2, 4, 5), metadata=None)

    with pytest.raises(AxesRefused, match=why) as caught:
        inspect_image(path, axes=axes)

    assert (caught.value.code, caught.value.exit_status) == ("axes.words", 2)


def test_the_users_word_outdoes_the_file(tmp_path: Path) -> None:
    words = {"axes": "CYX", "Channel": {"Name": ["a", "b"]}}
    path = saved(tmp_path / "a.ome.tif", numbered(2, 4, 5), ome=True, metadata=words)

    info = inspect_image(path, axes="tyx")

    assert (info.axes, info.channel_names) == ("tyx", ())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float16", "float64", "bool"])
def test_pixels_come_in_the_byte_order_of_the_machine(
    tmp_path: Path, dtype: str, order: Literal["<", ">"]
) -> None:
    pixels = numbered(4, 5, dtype=dtype)
    np.save(tmp_path / "a.npy", pixels.astype(pixels.dtype.newbyteorder(order)))
    saved(tmp_path / "a.tif", pixels, byteorder=order)

    for name in ("a.npy", "a.tif"):
        info = inspect_image(tmp_path / name)
        image = read_image(info)

        assert info.dtype == image.dtype == pixels.dtype
        assert image.dtype.isnative
        assert np.array_equal(image, pixels)


def test_uncompressed_pixels_are_mapped_rather_than_read(tmp_path: Path) -> None:
    plain = saved(tmp_path / "a.tif", numbered(4, 5), byteorder="<")
    np.save(tmp_path / "a.npy", numbered(4, 5))

    for path in (plain, tmp_path / "a.npy"):
        owner: Any = read_image(inspect_image(path)).array
        while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
            owner = owner.base
        assert isinstance(owner, np.memmap)

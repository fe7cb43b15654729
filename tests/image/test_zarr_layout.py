"""Which array of an OME-Zarr folder is meant, and how long its pixels are, in odd layouts too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from tests.image.test_ome_zarr import (
    CZYX,
    PIXELS,
    VERSIONS,
    YX,
    axis,
    group,
    multiscale,
    planes,
)

from bmz.image.faults import ImageUnreadable, SeriesOutOfRange, ZarrHoldsImages
from bmz.image.inspect import inspect_image
from bmz.image.ome_zarr import Chosen, ZarrAxis, chosen_array
from bmz.image.region import read_image

PLANE = PIXELS[0, 0]


def scale(*lengths: float) -> dict[str, Any]:
    return {"type": "scale", "scale": list(lengths)}


def shift(*lengths: float) -> dict[str, Any]:
    return {"type": "translation", "translation": list(lengths)}


def moved(
    path: Path, version: str, own: list[dict[str, Any]], whole: list[dict[str, Any]] | None = None
) -> Path:
    """Write a plane with these transformations of its resolution, and of the whole image."""
    image = multiscale(YX, ("0", [1.0, 1.0]), version=version)
    image["datasets"][0]["coordinateTransformations"] = own
    if whole is not None:
        image["coordinateTransformations"] = whole
    return group(path, version, {"multiscales": [image]}, _0=PLANE)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("own", "whole", "um"),
    [
        ([scale(0.5, 0.25), shift(7.0, 9.0)], None, {"y": 0.5, "x": 0.25}),
        ([scale(2.0, 4.0)], [scale(0.25, 0.5), shift(7.0, 9.0)], {"y": 0.5, "x": 2.0}),
        ([scale(2.0, 4.0), shift(7.0, 9.0)], [scale(1.0, 1.0)], {"y": 2.0, "x": 4.0}),
    ],
)
def test_scales_multiply_and_shifts_alter_no_length(
    tmp_path: Path,
    version: str,
    own: list[dict[str, Any]],
    whole: list[dict[str, Any]] | None,
    um: dict[str, float],
) -> None:
    path = moved(tmp_path / "a.zarr", version, own, whole)

    assert inspect_image(path).pixel_um == um


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("length", [0.0, -0.5])
def test_a_scale_that_cannot_be_meant_is_odd_in_its_axis_alone(
    tmp_path: Path, version: str, length: float
) -> None:
    info = inspect_image(moved(tmp_path / "a.zarr", version, [scale(length, 0.25)]))

    assert info.pixel_um == {"x": 0.25}
    assert info.odd_pixel == (f"y: {length:g} micrometer",)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("own", [[], [shift(1.0, 1.0)], [scale(1.0)], [scale(1.0, 1.0)] * 2])
def test_a_resolution_without_one_scale_for_its_axes_has_no_known_lengths(
    tmp_path: Path, version: str, own: list[dict[str, Any]]
) -> None:
    info = inspect_image(moved(tmp_path / "a.zarr", version, own))

    assert info.pixel_um == {}
    assert np.array_equal(np.asarray(read_image(info)), PLANE)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_scale_of_the_whole_image_leaves_those_of_the_resolutions(
    tmp_path: Path, version: str
) -> None:
    assert inspect_image(moved(tmp_path / "a.zarr", version, [scale(2.0, 4.0)], [])).pixel_um == {
        "y": 2.0,
        "x": 4.0,
    }


@pytest.mark.parametrize(
    ("told", "nested", "remarks"),
    [
        ("0.4-dev-spatialdata", False, 0),
        ("0.5-dev-spatialdata", True, 0),
        ("0.5.2", True, 0),
        ("0.6", True, 1),
    ],
)
def test_other_versions_are_tried_and_newer_ones_told(
    tmp_path: Path, told: str, nested: bool, remarks: int
) -> None:
    path = moved(tmp_path / "a.zarr", "0.5" if nested else "0.4", [scale(2.0, 4.0)])
    attributes = zarr.open_group(path, mode="r+").attrs
    ome: dict[str, Any] = dict(attributes["ome"] if nested else attributes)  # type: ignore[arg-type]
    if nested:
        attributes["ome"] = {**ome, "version": told}
    else:
        attributes["multiscales"] = [{**ome["multiscales"][0], "version": told}]

    info = inspect_image(path)

    assert info.pixel_um == {"y": 2.0, "x": 4.0}
    assert len(info.remarks) == remarks
    assert all(f"OME-Zarr {told}" in remark for remark in info.remarks)


@pytest.mark.parametrize(("told", "axes"), [("0.1", None), ("0.2", None), ("0.3", list("tczyx"))])
def test_versions_before_0_4_name_their_axes_or_have_five(
    tmp_path: Path, told: str, axes: list[str] | None
) -> None:
    image: dict[str, Any] = {"version": told, "datasets": [{"path": "0"}]}
    if axes:
        image["axes"] = axes
    path = group(tmp_path / "a.zarr", "0.4", {"multiscales": [image]}, _0=PIXELS[None])

    info = inspect_image(path)

    assert (info.axes, info.shape, info.pixel_um) == ("czyx", PIXELS.shape, {})
    assert info.remarks == (f"it is OME-Zarr {told}, which is read as 0.4",)


@pytest.mark.parametrize(
    ("first", "letter"),
    [
        ({"name": "frames", "type": "time"}, "t"),
        ({"name": "stain", "type": "channel"}, "c"),
        ({"name": "Z", "type": "space"}, "z"),
        ({"name": "angle"}, "q"),
    ],
)
def test_an_axis_goes_by_its_letter_else_by_its_type_else_by_no_name(
    tmp_path: Path, first: dict[str, str], letter: str
) -> None:
    image = multiscale([first, *YX], ("0", [1.0, 0.5, 0.25]), version="0.5")
    path = group(tmp_path / "a.zarr", "0.5", {"multiscales": [image]}, _0=PIXELS[0])

    info = inspect_image(path)

    assert (info.axes, info.shape) == (f"{letter}yx", (3, 20, 24))
    assert info.pixel_um == {"y": 0.5, "x": 0.25}


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        ([{"label": "DAPI"}, {"label": "GFP"}], ("DAPI", "GFP")),
        ([{"label": "DAPI"}, {"label": ""}], ()),
        ([{"label": "DAPI"}, {"color": "00FF00"}], ()),
        ([{"label": "DAPI"}], ()),
        ([{"label": "DAPI"}, "GFP"], ()),
        ({"label": "DAPI"}, ()),
        (None, ()),
    ],
)
def test_channels_have_names_only_when_each_has_one(
    tmp_path: Path, channels: object, names: tuple[str, ...]
) -> None:
    image = multiscale(CZYX, ("0", [1.0, 1.0, 1.0, 1.0]), version="0.4")
    ome = {"multiscales": [image], "omero": {"channels": channels}}

    info = inspect_image(group(tmp_path / "a.zarr", "0.4", ome, _0=PIXELS))

    assert info.channel_names == names


def test_omero_that_is_no_object_names_no_channel(tmp_path: Path) -> None:
    image = multiscale(YX, ("0", [1.0, 1.0]), version="0.4")
    path = group(tmp_path / "a.zarr", "0.4", {"multiscales": [image], "omero": [1]}, _0=PLANE)

    assert chosen_array(path, 0).omero == {}
    assert inspect_image(path).channel_names == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_array_in_a_folder_of_its_own_belongs_to_the_group_above(
    tmp_path: Path, version: str
) -> None:
    image = multiscale(YX, ("fine/0", [0.5, 0.25]), ("fine/1", [1.0, 0.5]), version=version)
    path = group(tmp_path / "a.zarr", version, {"multiscales": [image]})
    group(path / "fine", version, {}, _0=PLANE, _1=PLANE[::2, ::2])

    whole, coarse = inspect_image(path), inspect_image(path / "fine" / "1")

    assert (whole.shape, whole.pixel_um) == ((20, 24), {"y": 0.5, "x": 0.25})
    assert (coarse.axes, coarse.shape, coarse.pixel_um) == ("yx", (10, 12), {"y": 1.0, "x": 0.5})
    assert np.array_equal(read_image(coarse), PLANE[::2, ::2])


def test_an_array_beside_the_resolutions_is_none_of_them(tmp_path: Path) -> None:
    path = planes(tmp_path / "a.zarr", "0.5")
    zarr.create_array(path / "thumbnail", data=PLANE)

    chosen = chosen_array(path / "thumbnail", 0)

    assert chosen == Chosen(path / "thumbnail")
    assert inspect_image(path / "thumbnail").pixel_um == {}


def test_the_resolution_of_the_second_image_has_the_axes_of_the_second(tmp_path: Path) -> None:
    named = [axis("y", unit="nanometer"), axis("x", unit="nanometer")]
    images = [
        multiscale(YX, ("a", [1.0, 1.0]), version="0.4"),
        multiscale(named, ("b", [500.0, 250.0]), version="0.4"),
    ]
    path = group(tmp_path / "a.zarr", "0.4", {"multiscales": images}, a=PLANE, b=PLANE)

    chosen = chosen_array(path / "b", 0)

    assert chosen.count == 1
    assert chosen.axes == (
        ZarrAxis("y", "space", "nanometer", 500.0),
        ZarrAxis("x", "space", "nanometer", 250.0),
    )


@pytest.mark.parametrize("series", [-1, 1])
@pytest.mark.parametrize("inner", ["", "0"])
def test_there_is_no_image_before_the_first_or_after_the_last(
    tmp_path: Path, inner: str, series: int
) -> None:
    path = planes(tmp_path / "a.zarr", "0.5") / inner

    with pytest.raises(SeriesOutOfRange, match="it contains one image, number 0"):
        inspect_image(path, series=series)


@pytest.mark.parametrize("listed", ["0", [], None, {}])
def test_images_that_are_not_listed_are_those_numbered_from_0(
    tmp_path: Path, listed: object
) -> None:
    path = group(tmp_path / "a.zarr", "0.5", {"bioformats2raw.layout": 3})
    group(path / "OME", "0.5", {"series": listed})
    for name in ("0", "1", "3"):
        planes(path / name, "0.5", shift=int(name))

    info = inspect_image(path, series=1)

    assert info.series_count == 2  # 3 does not follow 1
    assert np.array_equal(read_image(info).transposed("czyx"), PIXELS + np.uint16(1))


@pytest.mark.parametrize("name", ["/etc", "../b.zarr", "0/../../b.zarr"])
def test_a_listed_image_outside_is_refused_even_when_another_is_asked_for(
    tmp_path: Path, name: str
) -> None:
    path = group(tmp_path / "a.zarr", "0.5", {"bioformats2raw.layout": 3})
    group(path / "OME", "0.5", {"series": ["0", name]})
    planes(path / "0", "0.5")

    with pytest.raises(ImageUnreadable) as caught:
        inspect_image(path, series=0)

    told = f"'{path}' is refused: it names '{name}', which is outside of it"
    assert caught.value.message == told


@pytest.mark.parametrize(
    ("ome", "what", "inside"),
    [
        ({"plate": {"wells": [{"path": "/A/1/"}]}}, "a plate", "A/1/0"),
        ({"plate": {"wells": None}}, "a plate", None),
        ({"well": {"images": [{"acquisition": 1}, {"path": "2"}]}}, "a well", "2"),
        ({"labels": []}, "a group of label images that lists none", None),
        ({}, "a Zarr group without multiscales", None),
    ],
)
def test_a_group_of_images_names_the_first_of_them(
    tmp_path: Path, ome: dict[str, Any], what: str, inside: str | None
) -> None:
    path = group(tmp_path / "a.zarr", "0.5", ome)

    with pytest.raises(ZarrHoldsImages) as caught:
        inspect_image(path)

    assert caught.value.message == f"'{path}' is {what}, not an image"
    first = "" if inside is None else f"give one of its images, such as '{path / inside}'"
    assert caught.value.hint == (
        first or "give the folder inside it whose metadata have 'multiscales'"
    )


def test_a_group_of_anything_names_the_first_group_or_array_inside_by_name(tmp_path: Path) -> None:
    path = group(tmp_path / "a.zarr", "0.5", {}, second=PLANE, first=PLANE)
    (path / "a folder").mkdir()

    with pytest.raises(ZarrHoldsImages) as caught:
        inspect_image(path)

    assert caught.value.hint == f"give one of its images, such as '{path / 'first'}'"

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell
from bmz.image.faults import ImageUnreadable, SeriesOutOfRange, ZarrHoldsImages
from bmz.image.formats import image_suffix
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image

PIXELS = np.random.default_rng(0).integers(1, 60000, (2, 3, 20, 24)).astype(np.uint16)
VERSIONS = ["0.4", "0.5"]


def axis(name: str, kind: str = "space", unit: str | None = "micrometer") -> dict[str, Any]:
    named = {"name": name, "type": kind}
    return named if unit is None or kind == "channel" else {**named, "unit": unit}


CZYX = [axis("c", "channel"), axis("z"), axis("y"), axis("x")]
YX = CZYX[2:]


def multiscale(
    axes: list[dict[str, Any]], *levels: tuple[str, list[float]], version: str, **more: Any
) -> dict[str, Any]:
    datasets = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for path, scale in levels
    ]
    told = {"version": "0.4"} if version == "0.4" else {}
    return {"axes": axes, "datasets": datasets, **told, **more}


def group(path: Path, version: str, ome: dict[str, Any], **arrays: AnyArray) -> Path:
    old = version == "0.4"
    attributes: dict[str, Any] = ome if old else {"ome": {"version": version, **ome}}
    made = zarr.open_group(path, mode="w", zarr_format=2 if old else 3, attributes=attributes)
    for name, pixels in arrays.items():
        made.create_array(name.strip("_"), data=pixels, chunks=(*pixels.shape[:-2], 8, 8))
    return path


def planes(path: Path, version: str, *, shift: int = 0) -> Path:
    """Write a two-level image of four axes at `path`."""
    levels = ("0", [1.0, 2.0, 0.5, 0.25]), ("1", [1.0, 2.0, 1.0, 0.5])
    omero = {"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP"}]}
    ome = {"multiscales": [multiscale(CZYX, *levels, version=version)], "omero": omero}
    small = PIXELS[..., ::2, ::2] + np.uint16(shift)
    return group(path, version, ome, _0=PIXELS + np.uint16(shift), _1=small)


def with_labels(path: Path, version: str) -> Path:
    planes(path, version)
    group(path / "labels", version, {"labels": ["nuclei"]})
    nuclei = {
        "multiscales": [multiscale(YX, ("0", [0.5, 0.25]), version=version)],
        "image-label": {"source": {"image": "../../"}},
    }
    group(path / "labels" / "nuclei", version, nuclei, _0=PIXELS[0, 0])
    return path


def code_of(path: Path) -> tuple[str, str]:
    with pytest.raises(CouldNotTell) as caught:
        read_image(inspect_image(path))
    assert "\n" not in caught.value.message
    return caught.value.code, caught.value.message


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change the attributes that speak of images in a group of 0.5."""
    words = json.loads((path / "zarr.json").read_text())
    change(words["attributes"]["ome"])
    (path / "zarr.json").write_text(json.dumps(words))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["a.ome.zarr", "a.zarr", "a folder"])
def test_an_image_tells_axes_lengths_and_channels(tmp_path: Path, version: str, name: str) -> None:
    path = planes(tmp_path / name, version)

    info = inspect_image(path)
    image = read_image(info)

    assert (info.axes, info.shape, info.dtype) == ("czyx", PIXELS.shape, np.dtype("uint16"))
    assert info.pixel_um == {"z": 2.0, "y": 0.5, "x": 0.25}
    assert (info.pixel_from, info.channel_names) == ("OME-Zarr", ("DAPI", "GFP"))
    assert image.axes == ("c", "z", "y", "x")
    assert np.array_equal(image.transposed("czyx"), PIXELS)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_of_one_resolution_is_this_resolution(tmp_path: Path, version: str) -> None:
    path = planes(tmp_path / "a.ome.zarr", version)

    info = inspect_image(path / "1")

    assert (info.axes, info.shape) == ("czyx", (2, 3, 10, 12))
    assert info.pixel_um == {"z": 2.0, "y": 1.0, "x": 0.5}
    assert info.channel_names == ("DAPI", "GFP")
    assert np.array_equal(read_image(info).transposed("czyx"), PIXELS[..., ::2, ::2])
    with pytest.raises(SeriesOutOfRange):
        inspect_image(path / "1", series=1)


@pytest.mark.parametrize("version", VERSIONS)
def test_labels_are_read_by_their_own_folder(tmp_path: Path, version: str) -> None:
    path = with_labels(tmp_path / "a.ome.zarr", version)

    info = inspect_image(path / "labels" / "nuclei")

    assert (info.axes, info.pixel_um) == ("yx", {"y": 0.5, "x": 0.25})
    assert np.array_equal(read_image(info), PIXELS[0, 0])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_images_of_a_group_of_labels_are_series(tmp_path: Path, version: str) -> None:
    path = with_labels(tmp_path / "a.ome.zarr", version)

    info = inspect_image(path / "labels")

    assert info.series_names == ("nuclei",)
    alone = read_image(inspect_image(path / "labels" / "nuclei"))
    assert np.array_equal(read_image(info).array, alone.array)


@pytest.mark.parametrize("version", VERSIONS)
def test_several_multiscales_are_series(tmp_path: Path, version: str) -> None:
    images = [
        multiscale(YX, ("first", [1.0, 1.0]), version=version),
        multiscale(YX, ("second", [3.0, 3.0]), version=version),
    ]
    path = tmp_path / "a.zarr"
    group(path, version, {"multiscales": images}, first=PIXELS[0, 0], second=PIXELS[1, 1, :9])

    info = inspect_image(path, series=1)

    assert (info.shape, info.series, info.series_count) == ((9, 24), 1, 2)
    assert info.pixel_um == {"y": 3.0, "x": 3.0}
    assert np.array_equal(read_image(info), PIXELS[1, 1, :9])
    with pytest.raises(SeriesOutOfRange, match="2 images, numbers 0 to 1"):
        inspect_image(path, series=2)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("listed", [None, ["1", "0"]])
def test_images_as_bioformats2raw_lays_them_are_series(
    tmp_path: Path, version: str, listed: list[str] | None
) -> None:
    path = group(tmp_path / "a.zarr", version, {"bioformats2raw.layout": 3})
    for i in range(2):
        planes(path / str(i), version, shift=i)
    if listed is not None:
        group(path / "OME", version, {"series": listed})

    infos = [inspect_image(path, series=i) for i in range(2)]

    first = int((listed or ["0"])[0])
    assert [info.series_count for info in infos] == [2, 2]
    assert np.array_equal(read_image(infos[0]).transposed("czyx"), PIXELS + np.uint16(first))
    assert np.array_equal(read_image(infos[1]).transposed("czyx"), PIXELS + np.uint16(1 - first))


def test_axes_of_one_entry_are_left_out_as_those_of_tiff_are(tmp_path: Path) -> None:
    axes = [axis("t", "time", "second"), *CZYX]
    image = multiscale(axes, ("0", [1.0, 1.0, 1.0, 0.5, 0.5]), version="0.4")
    omero = {"channels": [{"label": "DAPI"}]}
    path = tmp_path / "a.zarr"
    group(path, "0.4", {"multiscales": [image], "omero": omero}, _0=PIXELS[:1, :1][None])

    info, told = inspect_image(path), inspect_image(path, axes="tczyx")

    assert (info.axes, info.shape, info.channel_names) == ("yx", (20, 24), ())
    assert (told.axes, told.shape, told.pixel_um["z"]) == ("tczyx", (1, 1, 1, 20, 24), 1.0)


def test_units_count_and_a_scale_without_one_is_no_length(tmp_path: Path) -> None:
    axes = [axis("z", unit="nanometer"), axis("y", unit=None), axis("x", unit="millimeter")]
    image = multiscale(axes, ("0", [300.0, 0.5, 0.002]), version="0.5")

    info = inspect_image(group(tmp_path / "a", "0.5", {"multiscales": [image]}, _0=PIXELS[0]))

    assert info.pixel_um == pytest.approx({"z": 0.3, "x": 2.0})


def test_a_scale_of_the_whole_image_multiplies_that_of_its_resolution(tmp_path: Path) -> None:
    whole = [{"type": "scale", "scale": [0.5, 0.25]}]
    image = multiscale(
        YX, ("0", [1.0, 1.0]), version="0.4", coordinateTransformations=whole, name="a"
    )

    info = inspect_image(group(tmp_path / "a", "0.4", {"multiscales": [image]}, _0=PIXELS[0, 0]))

    assert info.pixel_um == {"y": 0.5, "x": 0.25}


def test_an_array_that_no_image_speaks_of_is_ambiguous_until_named(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS[0])
    zarr.create_array(tmp_path / "b.zarr", data=PIXELS[0], dimension_names=["z", "y", "x"])

    silent, told = (
        inspect_image(tmp_path / "a.zarr"),
        inspect_image(tmp_path / "a.zarr", axes="zyx"),
    )

    assert (silent.axes, told.axes) == ("qqq", "zyx")
    assert inspect_image(tmp_path / "b.zarr").axes == "zyx"
    assert np.array_equal(read_image(told), PIXELS[0])


def test_endings_of_zarr_are_cut_off_output_names() -> None:
    assert image_suffix(Path("a.b.ome.zarr")) == ".ome.zarr"
    assert image_suffix(Path("a.ZARR")) == ".ZARR"


def test_folders_that_are_no_image_have_words_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "empty.ome.zarr").mkdir()
    wells = [{"path": "B/2", "rowIndex": 0, "columnIndex": 0}]
    plate = group(tmp_path / "plate.zarr", "0.4", {"plate": {"wells": wells}})
    well = group(plate / "B" / "2", "0.4", {"well": {"images": [{"path": "0"}]}})
    other = group(tmp_path / "other.zarr", "0.5", {})

    assert code_of(tmp_path / "plain")[0] == "image.folder"
    assert code_of(tmp_path / "empty.ome.zarr")[0] == "image.unreadable"
    for path, image in ((plate, "B/2/0"), (well, "B/2/0"), (other, "multiscales")):
        with pytest.raises(ZarrHoldsImages) as caught:
            inspect_image(path)
        assert image in caught.value.hint


@pytest.mark.parametrize(
    ("lost", "code", "why"),
    [
        ("0/zarr.json", "image.unreadable", "is incomplete: its array '0' is missing"),
        ("0", "image.unreadable", "is incomplete: its array '0' is missing"),
        ("0/c", "image.truncated", "its array '0' has no chunks"),
        ("zarr.json", "image.unreadable", "it contains no zarr.json or .zgroup"),
    ],
)
def test_a_store_that_lacks_a_part_is_called_incomplete(
    tmp_path: Path, lost: str, code: str, why: str
) -> None:
    path = planes(tmp_path / "a.zarr", "0.5")
    part = path / lost
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink()

    found, message = code_of(path)

    assert found == code
    assert why in message


def test_labels_without_an_object_need_no_chunk(tmp_path: Path) -> None:
    path = with_labels(tmp_path / "a.zarr", "0.5") / "labels" / "nuclei"
    shutil.rmtree(path / "0" / "c")

    assert not read_image(inspect_image(path)).array.any()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda ome: ome["multiscales"][0].pop("axes"), "at multiscales.0.axes: Field required"),
        (lambda ome: ome.update(multiscales=7), "'multiscales' is not a list"),
        (lambda ome: ome.update(multiscales=[]), "is a Zarr group without multiscales"),
        (
            lambda ome: ome["multiscales"][0]["datasets"][0].update(path="../b.zarr/0"),
            "The name '../b.zarr/0' is not a valid Zarr node name",
        ),
    ],
)
def test_metadata_that_do_not_follow_the_format_are_told_by_place(
    tmp_path: Path, change: Callable[[Any], object], why: str
) -> None:
    path = planes(tmp_path / "a.zarr", "0.5")
    edit(path, change)

    with pytest.raises(BmzError, match=re.escape(why)) as caught:
        inspect_image(path)

    assert "\n" not in caught.value.message


def test_images_outside_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    planes(tmp_path / "b.zarr", "0.4")
    path = group(tmp_path / "a.zarr", "0.4", {"bioformats2raw.layout": 3})
    group(path / "OME", "0.4", {"series": ["../b.zarr"]})

    assert "it names '../b.zarr', which is outside of it" in code_of(path)[1]


def test_axes_that_the_array_does_not_have_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    image = multiscale(CZYX, ("0", [1.0, 1.0, 1.0, 1.0]), version="0.5")
    group(path, "0.5", {"multiscales": [image]}, _0=PIXELS[0])

    assert "names 4 axes, but its array has 3" in code_of(path)[1]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    for version in VERSIONS:
        planes(folder / version, version)
    return folder


def test_a_chunk_that_says_it_holds_fewer_than_0_bytes_is_damaged(tmp_path: Path) -> None:
    planes(tmp_path / "a.zarr", "0.4")
    chunk = next(
        p for p in (tmp_path / "a.zarr" / "0").rglob("*") if "z" not in p.name and p.is_file()
    )
    content = bytearray(chunk.read_bytes())
    content[7] = 128  # the sign of the size in the header of Blosc
    chunk.write_bytes(content)

    with pytest.raises(ImageUnreadable, match="is a damaged OME-Zarr folder"):
        read_image(inspect_image(tmp_path / "a.zarr"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120)
@given(data=st.data())
def test_a_damaged_file_of_a_store_ends_in_an_image_or_in_one_of_our_errors(
    tmp_path: Path, sound: Path, data: st.DataObject
) -> None:
    files = sorted(p.relative_to(sound) for p in sound.rglob("*") if p.is_file())
    chosen = [f for f in files if f.parts[1] != "1"]  # the image reads its finest level
    metadata = [f for f in chosen if "z" in f.name]
    name = data.draw(st.sampled_from(metadata) | st.sampled_from(chosen))
    path = tmp_path / "x" / name.parts[0]
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    shutil.copytree(sound / name.parts[0], path)
    raw = bytearray((sound / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    keep = data.draw(st.just(len(raw)) | st.integers(0, len(raw)))
    (tmp_path / "x" / name).write_bytes(raw[:keep])

    try:
        read_image(inspect_image(path))
    except BmzError as error:
        assert "\n" not in error.message  # noqa: PT017  (any of our errors will do)

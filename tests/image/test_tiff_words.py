"""What TIFF tags, ImageJ's words and OME-XML say of pixels and channels, odd words included."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.base.arrays import AnyArray
from bmz.image.faults import ImageEmpty, ImageTooLarge, ImageTruncated, SeriesOutOfRange
from bmz.image.inspect import inspect_image
from bmz.image.pixel_size import declares_entities, read_ome
from bmz.image.region import read_image

STACK: AnyArray = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(np.uint16)
X_RESOLUTION, RESOLUTION_UNIT = 282, 296
SHORT, LONG, FLOAT, TEXT = 3, 4, 11, 2


def saved(path: Path, pixels: AnyArray, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    return path


def with_tag(path: Path, code: int, kind: int, value: bytes) -> Path:
    """Give one tag of the first page another type, with its value beside it."""
    raw = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, start)
    places = [start + 2 + 12 * i for i in range(count)]
    (place,) = (at for at in places if struct.unpack_from("<H", raw, at)[0] == code)
    struct.pack_into("<HHI4s", raw, place, code, kind, 1, value)
    path.write_bytes(raw)
    return path


def described(path: Path, words: str, pixels: AnyArray = STACK[0, 0], **options: Any) -> Path:
    """Write a file with a description as ImageJ makes it, to the letter."""
    return saved(path, pixels, description=f"ImageJ=1.54f\n{words}\n", metadata=None, **options)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (FLOAT, struct.pack("<f", 20_000)),
        (SHORT, struct.pack("<HH", 20_000, 0)),
        (LONG, struct.pack("<I", 20_000)),
    ],
)
def test_a_resolution_that_is_no_ratio_is_unknown_and_the_image_is_read_all_the_same(
    tmp_path: Path, kind: int, value: bytes
) -> None:
    path = saved(tmp_path / "a.tif", STACK[0, 0], resolution=(20_000, 20_000), resolutionunit=3)

    info = inspect_image(with_tag(path, X_RESOLUTION, kind, value))

    assert info.pixel_um == {"y": 0.5}
    assert np.array_equal(read_image(info), STACK[0, 0])


@pytest.mark.parametrize(
    ("kind", "value"), [(SHORT, struct.pack("<HH", 9, 0)), (TEXT, b"cm\0\0"), (LONG, bytes(4))]
)
def test_a_unit_that_no_standard_knows_leaves_the_pixel_size_unknown(
    tmp_path: Path, kind: int, value: bytes
) -> None:
    path = saved(tmp_path / "a.tif", STACK[0, 0], resolution=(20_000, 20_000), resolutionunit=3)

    info = inspect_image(with_tag(path, RESOLUTION_UNIT, kind, value))

    assert (info.pixel_um, info.odd_pixel, info.pixel_from) == ({}, (), "")
    assert np.array_equal(read_image(info), STACK[0, 0])


def test_a_resolution_without_a_unit_is_in_inches_as_the_standard_says(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", STACK[0, 0], resolution=(25_400, 25_400), resolutionunit=3)
    raw = path.read_bytes()
    tag = struct.pack("<HHI", RESOLUTION_UNIT, SHORT, 1)
    assert raw.count(tag) == 1
    path.write_bytes(raw.replace(tag, struct.pack("<HHI", 65_000, SHORT, 1)))

    assert inspect_image(path).pixel_um == {"y": 1.0, "x": 1.0}


def test_a_resolution_of_nothing_is_odd_in_the_axes_that_have_it(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "a.tif", STACK[0, 0], resolution=((0, 1), (20_000, 1)), resolutionunit=3
    )

    info = inspect_image(path)

    assert info.pixel_um == {"y": 0.5}
    assert info.odd_pixel == ("x: inf cm",)


@pytest.mark.parametrize("unit", [r"\u00B5m", "micron", "um", "\xb5m"])
def test_the_micrometre_of_imagej_is_read_from_the_file(tmp_path: Path, unit: str) -> None:
    words = f"images=2\nslices=2\nunit={unit}\nspacing=0.75".encode("latin-1")
    path = saved(
        tmp_path / "a.tif",
        STACK[:, 0],
        description=b"ImageJ=1.54f\n" + words + b"\n",
        metadata=None,
        resolution=(4, 8),
        resolutionunit=1,
    )

    info = inspect_image(path)

    assert info.axes == "zyx"
    assert info.pixel_um == {"z": 0.75, "y": 0.125, "x": 0.25}
    assert (info.pixel_from, info.odd_pixel) == ("ImageJ", ())


@pytest.mark.parametrize(
    ("words", "um", "odd"),
    [
        ("unit=um\nspacing=-2.0", {"y": 0.5, "x": 0.25}, ("z: -2 um",)),
        ("unit=um\nspacing=0.0", {"y": 0.5, "x": 0.25}, ("z: 0 um",)),
        ("unit=um\nspacing=two", {"y": 0.5, "x": 0.25}, ("z: nan um",)),
        (
            "unit=um\nspacing=2.0\nyunit=mm",
            {"z": 2.0},
            ("y: 500 um and x: 0.25 um differ too much",),
        ),
        ("unit=nm\nspacing=300", {"z": 0.3, "y": 0.0005, "x": 0.00025}, ()),
        ("unit=um\nspacing=300\nzunit=nm", {"z": 0.3, "y": 0.5, "x": 0.25}, ()),
        ("unit=sec\nspacing=2.0", {}, ()),
    ],
)
def test_lengths_of_imagej_count_by_their_units_and_odd_ones_are_said(
    tmp_path: Path, words: str, um: dict[str, float], odd: tuple[str, ...]
) -> None:
    text = f"images=2\nslices=2\n{words}"
    options: dict[str, Any] = {"resolution": (4, 2), "resolutionunit": 1}

    info = inspect_image(described(tmp_path / "a.tif", text, STACK[:, 0], **options))

    assert info.pixel_um == pytest.approx(um)
    assert info.odd_pixel == odd


def test_inches_of_imagej_that_a_microscope_may_mean_keep_their_spacing(tmp_path: Path) -> None:
    text = "images=2\nslices=2\nunit=inch\nspacing=0.0001"
    fine: dict[str, Any] = {"resolution": (25_400, 25_400), "resolutionunit": 2}
    screen: dict[str, Any] = {"resolution": (72, 72), "resolutionunit": 2}

    meant = inspect_image(described(tmp_path / "a.tif", text, STACK[:, 0], **fine))
    carried = inspect_image(described(tmp_path / "b.tif", text, STACK[:, 0], **screen))

    assert meant.pixel_um == pytest.approx({"z": 2.54, "y": 1.0, "x": 1.0})
    assert carried.pixel_um == {}
    assert carried.odd_pixel == ("y: 0.0139 inch (72 dpi)", "x: 0.0139 inch (72 dpi)")


@pytest.mark.parametrize(("mode", "colour"), [("composite", False), ("color", True)])
def test_three_stains_that_imagej_composed_are_no_photograph(
    tmp_path: Path, mode: str, *, colour: bool
) -> None:
    pixels = np.arange(4 * 5 * 3).reshape(4, 5, 3).astype(np.uint8)
    path = described(tmp_path / "a.tif", f"images=1\nmode={mode}", pixels, photometric="rgb")

    info = inspect_image(path)

    assert (info.axes, info.colour) == ("yxc", colour)


@pytest.mark.parametrize(
    ("axes", "labels", "names"),
    [
        ("CYX", ["DAPI", "GFP", "RFP"], ("DAPI", "GFP", "RFP")),
        ("CYX", ["DAPI", "GFP", "DAPI"], ()),
        ("CYX", ["DAPI", "", "RFP"], ()),
        ("ZYX", ["z1", "z2", "z3"], ()),
        ("TYX", ["0 s", "1 s", "2 s"], ()),
    ],
)
def test_slice_labels_name_channels_only_where_each_channel_is_one_slice(
    tmp_path: Path, axes: str, labels: list[str], names: tuple[str, ...]
) -> None:
    words = {"axes": axes, "Labels": labels}

    info = inspect_image(saved(tmp_path / "a.tif", STACK[0], imagej=True, metadata=words))

    assert (info.axes, info.channel_names) == (axes.lower(), names)


def pixels_of(attributes: str, channels: str = "") -> str:
    return f'<OME xmlns="o"><Image><Pixels {attributes}>{channels}</Pixels></Image></OME>'


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("\xb5m", 0.5), ("\u03bcm", 0.5), ("nm", 0.0005), ("mm", 500.0), ("cm", 5000.0),
        ("m", 5e5), ("\xc5", 5e-5), ("pm", 5e-7), ("in", 12_700.0),
    ],
)  # fmt: skip
def test_each_unit_of_ome_that_is_a_length_is_turned_into_um(unit: str, um: float) -> None:
    xml = pixels_of(f'PhysicalSizeX="0.5" PhysicalSizeXUnit="{unit}"')

    size, _ = read_ome(xml, 0, 1)

    assert size.um == pytest.approx({"x": um})


@pytest.mark.parametrize("unit", ["pixel", "reference frame", ""])
def test_units_of_ome_that_are_no_length_leave_the_size_unknown(unit: str) -> None:
    xml = pixels_of(f'PhysicalSizeZ="0.5" PhysicalSizeZUnit="{unit}" PhysicalSizeX="2"')

    size, _ = read_ome(xml, 0, 1)

    assert (size.um, size.odd) == ({"x": 2.0}, ())


@pytest.mark.parametrize("text", ["0", "-0.5", "INF", "NaN", "0,5", ""])
def test_sizes_of_ome_that_cannot_be_meant_are_odd(text: str) -> None:
    size, _ = read_ome(pixels_of(f'PhysicalSizeY="{text}"'), 0, 1)

    assert (size.um, size.source, len(size.odd)) == ({}, "", 1)
    assert size.odd[0].startswith("y: ")


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        ('<Channel Name="a"/><Channel Name="b"/>', ("a", "b")),
        ('<Channel Name="a"/><TiffData/><Channel/>', ()),
        ("<TiffData/>", ()),
    ],
)
def test_channels_of_ome_have_names_when_each_has_one(
    channels: str, names: tuple[str, ...]
) -> None:
    assert read_ome(pixels_of("", channels), 0, 1)[1] == names


def test_each_image_of_ome_has_a_size_of_its_own() -> None:
    one, two = (f'<Image><Pixels PhysicalSizeX="{n}"/></Image>' for n in (1, 2))
    xml = f"<OME><Instrument><Pixels/></Instrument>{one}{two}</OME>"

    assert [read_ome(xml, n, 2)[0].um for n in range(2)] == [{"x": 1.0}, {"x": 2.0}]
    assert [read_ome(xml, n, 3)[0].um for n in range(2)] == [{}, {}]


@pytest.mark.parametrize(
    ("xml", "declares"),
    [
        ("<!doctype a>", True),
        ("<OME><!EnTiTy b 'c'></OME>", True),
        ("<OME><!-- DOCTYPE ENTITY --></OME>", False),
    ],
)
def test_entities_are_seen_however_they_are_written(xml: str, *, declares: bool) -> None:
    assert declares_entities(xml) == declares


@pytest.mark.parametrize("series", [-1, 1])
def test_a_file_of_one_image_has_no_image_before_or_after_it(tmp_path: Path, series: int) -> None:
    path = saved(tmp_path / "a.tif", STACK[0, 0], metadata=None)

    with pytest.raises(SeriesOutOfRange) as caught:
        inspect_image(path, series=series)

    told = f"'{path}' has no image number {series}: it contains one image, number 0"
    assert (caught.value.message, caught.value.exit_status) == (told, 2)


def test_bare_pixels_that_end_early_are_told_in_bytes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", STACK[0, 0], metadata=None)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])

    with pytest.raises(ImageTruncated) as caught:
        inspect_image(path)

    end = f"{len(whole)} bytes wanted, {len(whole) - 1} found"
    assert caught.value.message == f"'{path}' ends too early: {end}"


def test_a_file_without_a_page_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 0))

    with pytest.raises((ImageTruncated, ImageEmpty)) as caught:
        inspect_image(path)

    assert caught.value.message == f"'{path}' ends too early: it has no pages"


def test_pixels_that_do_not_fit_into_memory_are_told_by_their_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    path = saved(tmp_path / "a.tif", STACK[0], compression="zlib", metadata={"axes": "ZYX"})
    info = inspect_image(path)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", full)

    with pytest.raises(ImageTooLarge, match="does not fit into memory: 3 x 4 x 5 pixels"):
        read_image(info)

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bmz.image.inspect import inspect_image
from bmz.image.pixel_size import from_imagej, from_lengths, from_resolution, read_ome, well_of

PLANE = np.zeros((4, 5), np.uint8)


@pytest.mark.parametrize("unit", ["micron", "um", "µm", "μm", "\\u00B5m", "\\u00b5m"])
def test_every_spelling_of_micrometre_counts(unit: str) -> None:
    size = from_imagej({"unit": unit, "spacing": 2.0}, {"y": 4.0, "x": 4.0})

    assert size.um == {"z": 2.0, "y": 0.25, "x": 0.25}
    assert size.source == "ImageJ"


@pytest.mark.parametrize("unit", ["px", "pixel", "pixels", ""])
def test_pixels_are_no_unit_of_length(unit: str) -> None:
    size = from_imagej({"unit": unit, "spacing": 0.01}, {"y": 1000.0, "x": 1000.0})

    assert (size.um, size.source, size.odd) == ({}, "", ())


def test_axes_may_have_units_of_their_own() -> None:
    size = from_imagej(
        {"unit": "um", "yunit": "nm", "zunit": "mm", "spacing": 0.002}, {"y": 0.004, "x": 4.0}
    )

    assert size.um == pytest.approx({"z": 2.0, "y": 0.25, "x": 0.25})


def test_centimetres_of_imagej_are_believed() -> None:
    size = from_imagej({"unit": "cm"}, {"y": 20000.0, "x": 20000.0})

    assert size.um == pytest.approx({"y": 0.5, "x": 0.5})


@pytest.mark.parametrize("dpi", [1, 72, 96, 300, 600])
def test_dots_an_inch_of_screens_and_printers_are_no_pixel_size(dpi: int) -> None:
    inches = from_resolution({"y": dpi, "x": dpi}, "inch", "TIFF tags")
    centimetres = from_resolution({"y": dpi / 2.54, "x": dpi / 2.54}, "cm", "TIFF tags")
    imagej = from_imagej({"unit": "inch"}, {"y": dpi, "x": dpi})

    for size in (inches, centimetres, imagej):
        assert (size.um, size.source) == ({}, "")
        assert len(size.odd) == 2
        assert f"({dpi} dpi)" in size.odd[1]


def test_what_is_odd_is_said_in_the_words_of_the_file() -> None:
    size = from_resolution({"x": 72.0}, "inch", "TIFF tags")

    assert size.odd == ("x: 0.0139 inch (72 dpi)",)


@given(um=st.floats(0.01, 9.9))
def test_a_plain_resolution_as_a_microscope_writes_it_is_believed(um: float) -> None:
    size = from_resolution({"y": 1e4 / um, "x": 1e4 / um}, "cm", "TIFF tags")

    assert size.um == pytest.approx({"y": um, "x": um})


@pytest.mark.parametrize("length", [0.0, -0.5, math.inf, math.nan])
def test_lengths_that_cannot_be_are_odd(length: float) -> None:
    size = from_lengths({"x": length, "y": 0.5}, {"x": "um", "y": "um"}, "OME-XML")

    assert size.um == {"y": 0.5}
    assert size.odd == (f"x: {length:g} um",)


def test_x_and_y_that_differ_tenfold_are_odd() -> None:
    size = from_lengths({"x": 0.1, "y": 5.0}, {"x": "um", "y": "um"}, "OME-XML")

    assert size.um == {}
    assert size.odd == ("y: 5 um and x: 0.1 um differ too much",)


@pytest.mark.parametrize(("tall", "wide"), [(1.0, 10.0), (10.0, 1.0)])
def test_x_and_y_may_differ_tenfold_and_no_more(tall: float, wide: float) -> None:
    units = {"x": "um", "y": "um"}

    tenfold = from_lengths({"y": tall, "x": wide}, units, "OME-XML")
    more = from_lengths({"y": tall**1.01, "x": wide**1.01}, units, "OME-XML")

    assert (tenfold.um, tenfold.odd) == ({"y": tall, "x": wide}, ())
    assert (more.um, len(more.odd)) == ({}, 1)


def test_a_pixel_of_a_plain_tag_is_at_most_a_millimetre() -> None:
    millimetre = from_resolution({"x": 1.0}, "mm", "TIFF tags")
    larger = from_resolution({"x": 0.999}, "mm", "TIFF tags")

    assert (millimetre.um, millimetre.odd) == ({"x": 1000.0}, ())
    assert (larger.um, larger.odd) == ({}, ("x: 1 mm (25.37 dpi)",))


def test_inches_of_imagej_need_no_distance_of_slices() -> None:
    size = from_imagej({"unit": "inch"}, {"y": 25_400.0, "x": 50_800.0})

    assert (size.um, size.source) == ({"y": 1.0, "x": 0.5}, "ImageJ")


@given(um=st.floats(1e-3, 1e3), ratio=st.floats(0.11, 9.9))
def test_every_length_is_either_believed_or_called_odd(um: float, ratio: float) -> None:
    lengths = {"z": um * 20, "y": um * ratio, "x": um}

    size = from_lengths(lengths, dict.fromkeys("zyx", "um"), "OME-XML")

    assert size.um == pytest.approx(lengths)


@pytest.mark.parametrize(("unit", "um"), [("CENTIMETER", 0.65), ("NONE", None)])
def test_tags_count_only_with_a_unit(tmp_path: Path, unit: str, um: float | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, resolution=(1e4 / 0.65, 1e4 / 0.65), resolutionunit=unit)

    info = inspect_image(path)

    expected = {} if um is None else {"y": um, "x": um}
    assert info.pixel_um == pytest.approx(expected, rel=1e-6)
    assert info.pixel_from == ("" if um is None else "TIFF tags")


def test_the_resolution_of_a_screen_is_reported_as_odd(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, resolution=(72, 72), resolutionunit="INCH")

    info = inspect_image(path)

    assert info.pixel_um == {}
    assert info.odd_pixel == ("y: 0.0139 inch (72 dpi)", "x: 0.0139 inch (72 dpi)")


def test_a_png_of_a_screen_is_odd_and_one_of_a_microscope_is_not(tmp_path: Path) -> None:
    Image.fromarray(PLANE).save(tmp_path / "screen.png", dpi=(96, 96))
    whole = (tmp_path / "screen.png").read_bytes()
    body = b"pHYs" + struct.pack(">IIB", 2_000_000, 2_000_000, 1)
    chunk = struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body))
    start = whole.index(b"pHYs") - 4
    (tmp_path / "fine.png").write_bytes(whole[:start] + chunk + whole[start + len(chunk) :])

    screen, fine = (inspect_image(tmp_path / name) for name in ("screen.png", "fine.png"))

    assert (screen.pixel_um, len(screen.odd_pixel)) == ({}, 2)
    assert fine.pixel_um == pytest.approx({"y": 0.5, "x": 0.5})


def test_ome_of_another_number_of_images_tells_nothing() -> None:
    xml = '<OME xmlns="o"><Image><Pixels PhysicalSizeX="0.5"/></Image></OME>'

    assert read_ome(xml, 0, 1)[0].um == {"x": 0.5}
    assert read_ome(xml, 0, 2)[0].um == {}
    assert read_ome("<OME", 0, 1)[0].um == {}


def test_ome_numbers_that_are_none_are_odd() -> None:
    xml = '<OME><Image><Pixels PhysicalSizeX="half" PhysicalSizeY="0"/></Image></OME>'

    size, names = read_ome(xml, 0, 1)

    assert (size.um, names) == ({}, ())
    assert size.odd == ("y: 0 um", "x: nan um")


WELLS = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
  <Plate ID="Plate:0"{conventions}>
    <Well ID="Well:0" Row="1" Column="2"><WellSample ID="WellSample:0" Index="0">
      <ImageRef ID="Image:0"/></WellSample></Well>
    <Well ID="Well:1" Row="26" Column="0"><WellSample ID="WellSample:1" Index="1">
      <ImageRef ID="Image:1"/></WellSample></Well>
  </Plate>
  <Image ID="Image:0"/><Image ID="Image:1"/><Image ID="Image:2"/>
</OME>"""


@pytest.mark.parametrize(
    ("conventions", "names"),
    [
        ("", ["B3", "AA1", "", ""]),
        (' RowNamingConvention="number" ColumnNamingConvention="letter"', ["2C", "27A", "", ""]),
    ],
)
def test_a_well_is_named_as_its_plate_names_wells(conventions: str, names: list[str]) -> None:
    xml = WELLS.format(conventions=conventions)

    assert [well_of(xml, number) for number in range(4)] == names


@pytest.mark.parametrize("xml", ["", "<WellSample", WELLS.format(conventions="").replace("1", "-")])
def test_a_well_that_cannot_be_read_is_not_named(xml: str) -> None:
    assert well_of(xml, 0) == ""
